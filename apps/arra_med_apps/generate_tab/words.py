"""What the generate tab says."""

LOAD_FILE = "Load a report file"
FILE_TYPES = [".txt", ".csv", ".dcm"]
FILE_LOADED = "{count} reports loaded from the file: choose one below the box of the report."

THE_TABLE = "the table"
MAX_TABLE_ROWS, MAX_TABLE_IMAGES = 500, 1000
TABLE_TOLD = (
    "The table has {reports}: {images} with the settings below ({kind}). How long that takes is shown as soon as the first "
    "images are there."
)
TABLE_BAD = "{problem} Nothing of it is drawn; single reports of the file can be chosen above."
TABLE_DRAW = "Draw all {reports}"
TABLE_DRAW_ONE = "Draw the table's report"
TABLE_STOP = "Stop the table"
TABLE_TOO_MANY = (
    "The table asks for {count} images, more than the {most} that are drawn here: lower the number of images, or draw it with the "
    "command arra-med generate --prompts FILE.csv --out FOLDER."
)
TABLE_GONE = "The table is gone from this page, where files are kept for an hour: load it again."
TABLE_NO_PNG = "A table is drawn as PNG, or as PNG and DICOM: tick PNG under 'Files to take away'."
TABLE_NO_MODEL = "The table asks for {kind} images, for which there is no model here."
TABLE_FIRST = "The time left is told when the first images are there"
TABLE_PROGRESS = "{done} of {total} images done"
TABLE_LEFT = "{rate} images a second, about {left} left"
TABLE_STOPPING = "Stopping at the next row. The images that are finished are being packed."
TABLE_STOPPED = "Stopped after {done} of {total} images. The ones that are finished are below and in the ZIP file."
TABLE_STOPPED_EMPTY = "Stopped before the first image was finished."
TABLE_SHOWN = "The first {count} are shown; the ZIP file holds all, their records and the list of them (images.jsonl)"
REPORT_PICKER = "Report of the file"
ENGLISH_ONLY = "The model was taught English reports: words of other languages are likely to be ignored."

FORMATS = [("PNG picture", "png"), ("DICOM (Secondary Capture)", "dicom")]
VISIBLE_MARK = "Write SYNTHETIC into the corner of every picture"
NO_VISIBLE_MARK = "Without the word in the corner, only the invisible watermark and the file's own data say that a picture is synthetic."
KEEP_REPORT = "Keep the report's text in the record (JSON file); leave this off for reports of real patients"
NOTHING_TO_EXPORT = "Choose at least one format."
LEFT_OUT = "Left out"
HISTORY = "Earlier in this session"
HISTORY_HINT = "Click a picture to get its report and settings back; generate again for the same images. Nothing is kept after the page is closed."
RESTORED = "The report and settings of that run are back: press Generate for the same images."

SEND = "Send to a research system"
SEND_CONFIRM = "I confirm: this is a research system, no patient care reads from it"
SEND_UNCONFIRMED = "Nothing was sent: tick the box first to confirm that the destination is a research system."
SEND_NO_DICOM = "Nothing was sent: there is no DICOM file. Tick DICOM among the formats first."
SENT = "{count} synthetic images sent to {address}."
