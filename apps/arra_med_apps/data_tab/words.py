"""What the Data tab says."""

DATA_TAB = "Data"
INTRODUCTION = (
    "Drop DICOM, PNG or JPEG files to see what the tool makes of them: the values in the file, the picture as displayed, the view "
    "that a model is trained on, that view after the model's image tokens, and what a de-identified copy of a DICOM header would "
    "lose. Files are read in this app alone and deleted as soon as they have been looked at; header values are never shown."
)
DROP = "Files (at most {count}, {size} MB each)"
KIND = "What they are"
KEEP = "Keep the views, so that I can download them"
KEEP_NOTE = "The views show patients' images: keep them where those may be."
DOWNLOADS = "Canonical views (PNG), sensitive"
LOOK = "Look"
STOP = "Stop"
TOO_MANY = "Only the first {count} of {given} files were looked at."
TOO_LARGE = "larger than {size} MB; look at it with arra-med inspect"
NOTHING = "Choose at least one file first."
READING = "Looking at file {number} of {count}"
SEARCHING = "Looking file {number} of {count} up among the training images"
STOPPED = "Stopped. The files were deleted; what was looked at so far stays on the page."
REFUSED = "Ingestion would refuse it"
ACCEPTED = "Ingestion would take it."
ACCEPTED_WITH_ONE = "Ingestion would take it, and note one thing about it:"
ACCEPTED_WITH = "Ingestion would take it, and note {count} things about it:"
HEADER_DETAILS = "Which attributes"
SCORES_DETAILS = "What the quality checks measured"
NO_TRAINING = (
    "To see the training image that each file resembles most, start the app with the study set that trained the model: "
    "arra-med app --training STUDIES."
)
NEAREST_HOW = (
    "Likeness is measured after the image is laid over a training image. It stands beside that of {num} held-out real images "
    "of {source} to their nearest training image, measured in the same way."
)
NEAREST_FAILED = "No nearest training image can be shown: {why}"
UNREADABLE = "cannot be looked at: {why}"
UNEXPECTED = "something went wrong inside the app"
