"""Every sentence of the tab."""

TAB = "Explore"

PAIR_TAB = "Edited report"
PAIR_HELP = (
    "Both reports are drawn with the same seeds, so that only the report differs. The map shows where the pictures differ "
    "and by how much; it does not show why."
)
PAIR_LABEL = "Edited report"
PAIR_PLACEHOLDER = "The report with one thing changed, for example another finding"
PAIR_COUNT = "Number of pairs"
PAIR_RUN = "Draw both"
PAIR_EMPTY = "The pictures of both reports and the map of their difference appear here."
EMPTY_EDITED = "The box of the edited report is empty: copy the report into it and change what you want to see changed."

EDIT_TAB = "Redraw"
EDIT_HELP = (
    "Draw a picture or open one, mark squares in it, and have them drawn anew as the report says. Squares that are not "
    "marked keep their image tokens."
)
DRAW_ORIGINAL = "Draw the report"
OPEN_ORIGINAL = "Open an image"
ORIGINAL_EMPTY = "Draw the report, or open a PNG, JPEG or DICOM image of the same kind."
PICTURE = "Picture with its marked squares"
REGION_HELP = "Click a square to mark it or to take its mark away, or set a rectangle with the sliders; arrow keys move them, too."
LEFT, TOP, WIDTH, HEIGHT = "From the left, %", "From the top, %", "Width, %", "Height, %"
NEW_LABEL = "Report for the region (leave empty for the same report)"
TRIES = "Number of tries"
KEEP = "Keep the original pixels outside the region"
EDIT_RUN = "Redraw"
EDIT_EMPTY = "The redrawn pictures appear here, the best fitting first."
NO_ORIGINAL = "There is no picture to edit yet: draw the report, or open an image."
OTHER_MODEL = "The picture was opened with another model: draw or open it again with the one chosen now."
FROM_FILE = (
    "This image may be a patient's. It stays on this computer, in a private folder that is emptied hourly; so does what "
    "you make from it. An edit of it is no synthetic image as a whole."
)

EXPLAIN_TAB = "Ignored"
EXPLAIN_HELP = (
    "Images are drawn from the report; then each phrase is left out and the model is asked again how likely these images "
    "are. A phrase that changes this no more than other wordings of the same report do has no effect that could be found."
)
EXPLAIN_COUNT = "Images to measure on (more find smaller effects)"
EXPLAIN_RUN = "Find ignored phrases"
EXPLAIN_EMPTY = "The report with its phrases marked appears here. It takes about a minute."
NATS = "A nat is the unit of log-likelihood: one nat less means that the model finds the image 2.7 times less likely."
EXPLAIN_LEGEND = "Marked: has an effect. Grey and struck out: no effect was found."

STOPPED = "Stopped. Nothing was kept of it."
ACKNOWLEDGE = "tick the acknowledgement below the guidance, then start again for its files"
DOWNLOAD = "Download (.zip)"
UNEXPECTED = "Something went wrong inside the app and nothing was made: try again, or restart the app."
