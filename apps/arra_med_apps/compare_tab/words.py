"""Every sentence of the tab Compare."""

TAB = "Compare"

GRID_TITLE = "Same report, same seeds"
MODELS_LABEL = "Models"
SEEDS_LABEL = "Number of seeds"
SEED_LABEL = "First seed"
GRID_EMPTY = "The grid appears here"
GRID_HINT = "A row for each model, a column for each seed. All models start each column from the same seed."
COMPARE = "Compare"
STOP = "Stop"
ONE_MODEL = "There is one model of this kind here, so the grid has one row: open a second bundle's app to compare."
NO_MODEL = "No model is chosen: tick at least one."
TOO_MANY = "At most 6 seeds stand side by side: choose fewer."
STOPPED = "Stopped. What was made so far stays until you compare again."
CLICK_HINT = "Click a picture to enlarge it; arrow keys step through."

NEAREST_TITLE = "Nearest training images"
NEAREST_FIND = "Find nearest training images"
NEAREST_CHECK = "Check the pictures"
NEAREST_FIRST = "Compare first: the pictures of the grid are looked up among the images that trained the model."
NEAREST_LOOKING = "Looking the pictures up"
NEAREST_STOPPED = "Stopped. What was prepared so far is lost unless it was finished."
NEAREST_HOW = (
    "Likeness is measured after a picture is laid over a training image (1 is identical). A picture is flagged when it is "
    "more alike than all but {rate} held-out real images are to their nearest training image. A flag asks for a look at "
    "the pair; no flag is no proof that nothing was memorised."
)
NO_TRAINING = (
    "To see the nearest training images themselves, start the app with the study set that trained the model: "
    "arra-med app --training STUDIES."
)
NO_REFERENCE = "This model came without a check reference, so nothing can be said here without its study set."
REFERENCE_HOW = (
    "The model's own check reference knows what real images look like on the whole, but holds no single image: it can tell "
    "an implausible picture, not a copy."
)
FLAGGED = "Possible copy: look at the pair"
NOT_FLAGGED = "Not flagged"

SCORES_TITLE = "What a judge sees"
NO_JUDGE = (
    "To score the report's findings in the pictures, start the app with a classifier's encoder folder: "
    "arra-med app --judge FOLDER."
)
SCORES_FIRST = "Compare first: the judge then scores the findings that the report names."
SCORES_WORKING = "The judge is reading the pictures."
FEW_PICTURES = (
    "A few pictures of one report prove nothing about a model: the interval is over the seeds shown and knows neither "
    "other reports nor the judge's own errors."
)
NO_FINDING = "The report names no finding that this judge knows. It knows: {known}."
NOT_MEASURED = "not measured"
TOO_FEW = "few images: unsure"

STUDY_TITLE = "The study"
NO_STUDY = (
    "To see the answer of a whole study here (many reports, several training seeds, controls), start the app with the "
    "output of arra-med compare: arra-med app --study FOLDER."
)
OPEN_PAGE = "Open the report in its own page"

UNEXPECTED = "Something went wrong inside the app: try again, or restart the app."

REASONS = {
    "novelty": "unlike real images",
    "blank": "blank",
    "clipped": "clipped",
    "inverted": "a negative",
    "wrong_body_part": "another body part or upside down",
    "duplicate": "a repeat of another picture",
    "near_copy": "a near copy",
}
"""Why a check rejects a picture, in plain words."""
