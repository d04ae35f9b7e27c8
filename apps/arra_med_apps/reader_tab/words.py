"""The sentences of the reader-study tab."""

from arra_med.evaluate.reader_study import Design

TAB = "Reader study"
READ, SET_UP, RESULTS = "Read", "Set up", "Results"

CODE_LABEL = "Study code or reader code"
CODE_HINT = "With a study code you begin. With your own reader code you go on where you stopped."
AGREE = "I have read this and agree to take part."
BEGIN_WITHOUT_CONSENT = "This study asks for no consent."
YOUR_CODE = "Your reader code, to go on later. Write it down: it is kept nowhere else."
THANKS = "Thank you. You have answered all images of this study."
THANKS_HINT = "You may close this page. To have your answers deleted, give your reader code to whoever runs the study."
LEFT = "Reading is paused. Your answers are saved; go on with your reader code."
ALREADY = "This image was answered before; here is the next one."
UNDONE = "Your last answer is taken back. Here is the image again."
NOTHING_TO_UNDO = "There is no answer to take back yet."
NOT_OPEN = "No study is open here: enter a code first."
ANSWER_ALL = "Give a mark for every line, then save."
UNEXPECTED = "Something went wrong inside the app and nothing was changed: try again, or restart the app."

DESIGNS: tuple[tuple[str, Design], ...] = (
    ("Real or synthetic", "real_or_synthetic"),
    ("Baseline against ARRA", "preference"),
    ("Ratings", "likert"),
)
DESIGN_HINT = "What readers are asked of each image, or pair of images."
ARMS: tuple[tuple[str, str], ...] = (
    ("real", "Real images"),
    ("reconstructed", "Real images after the image tokenizer"),
    ("baseline", "Synthetic images, baseline (direct fine-tuning)"),
    ("arra", "Synthetic images, ARRA"),
)
ARMS_OF: dict[Design, tuple[str, ...]] = {
    "real_or_synthetic": ("real", "reconstructed", "baseline", "arra"),
    "preference": ("baseline", "arra"),
    "likert": ("real", "reconstructed", "baseline", "arra"),
}
DRAWN_ARMS = ("baseline", "arra")
UPLOAD_HINT = "DICOM, PNG or JPEG"
FOLDER_LABEL = "or a folder or study set on this computer"
PROMPTS_LABEL = "or draw the synthetic images from a CSV of reports (column: report)"
NO_MODEL = "not drawn"
SESSION_LABEL = "Use the images made in this session"
SESSION_HINT = (
    "Images that the tab Generate made since this page was opened, without marks: ARRA's, and its baseline's."
)
SESSION_EMPTY = "No image of this kind was made in this session: generate some first, or take the tick away."
SESSION_NEITHER = (
    "This session's images are by models that are neither ARRA nor its baseline: generate with one of these, or take the "
    "tick away."
)
SESSION_LEFT_OUT = "Left out of this session's images: {runs} of a model that is neither ARRA nor its baseline."
SIZES = (("As they are", 0), ("128 px", 128), ("256 px", 256), ("512 px", 512))
SIZE_HINT = "All images become squares of this size. Left as they are, all must have one size already."
SEED_HINT = "Empty draws one, which readers cannot guess. It is stored with the study."
CONSENT_LABEL = "Consent text"
ETHICS_LABEL = "Ethics approval"
ETHICS_HINT = "Committee and number, or why no approval is needed. Readers see it."
ITEMS_LABEL = "What is rated, one on a line (name: question); five marks each"
DEFAULT_ITEMS = "realism: How realistic does the image look?\nquality: How good is the image's quality?"
PAIRS_HINT = "Files of both arms belong together by their names."
SENSITIVE = (
    "The study's file on this computer holds the images and what breaks the blinding. Real images are patients' images: "
    "set up a study with them only where they may be kept."
)
NOT_LOCAL = "Folders can be named only on the computer that runs the app: upload the images instead."
NO_TABLE = "Choose for at least one arm the model that draws the reports, or take the CSV file away."
TOO_MANY = "More than 400 images would be drawn: draw them with the command arra-med reading study create."
MAX_DRAWN = 400
DRAWING = "Drawing the images"
PREPARING = "Preparing the images"
STOPPED = "Stopped. No study was made."
OWNER_CODE = "Owner code. It opens the results; it is shown once and kept nowhere."
OWNER_LABEL = "Owner code"
WRONG_OWNER = "This is not the owner code of that study."
NEEDS_STUDY_CODE = "Give the code of the study here, not that of a reader."
DELETE_LABEL = "Delete the answers of reader number"
DELETED = "The reader and all answers are deleted. Delete tables that you have downloaded, too."
BAD_ITEMS = "A line of what is rated is written name: question, such as realism: How realistic does the image look?"

KEYS: dict[Design, tuple[tuple[str, str], ...]] = {
    "real_or_synthetic": (("1", "real"), ("2", "synthetic")),
    "preference": (("1 or ←", "left"), ("2 or →", "right")),
    "likert": (("1 to 9", "mark for the next line"), ("Enter", "save")),
}
COMMON_KEYS = (("U", "take back the last answer"), ("0", "reset the window"))
MOUSE_HINT = "Drag on the image: sideways for window, up and down for level."
