"""What the About tab says."""

ABOUT_TAB = "About"
MARKS_TITLE = "How synthetic images are marked"
MARKS = (
    "The European Union's AI Act (Regulation 2024/1689, Article 50(2)) asks that synthetic images be marked in a way that "
    "machines can read and people can find out. What the buttons of this page download or send of a synthetic picture carries:",
    (
        "the word SYNTHETIC in the lower left corner (unless you untick it);",
        "an invisible watermark in the pixels that survives JPEG at quality 80 and a resize to 75%: arra-med watermark detect FILE;",
        "in PNG files the IPTC digital source type trainedAlgorithmicMedia, and the model, seed and settings;",
        "in DICOM files Synthetic Data (0008,001C) YES, Image Type DERIVED, Conversion Type SYN, a synthetic patient and series;",
        "a JSON record beside it with the same content (the button above a single picture downloads that picture alone).",
    ),
)
MARKS_LIMIT = (
    "What is copied from the screen carries none of this: while they form, and in Explore and Compare, pictures are shown as "
    "the model made them."
)
SIGNED = "Content credentials (C2PA): PNG files are signed with the certificate of this installation."
NOT_SIGNED = "Content credentials (C2PA): not signed, no certificate is configured (docs/export.md)."
CITE_TITLE = "How to cite"
CITE = (
    "ARRA-Med {version}, an open implementation for medical images of: Unleashing the Potential of Large Language Models for "
    "Text-to-Image Generation through Autoregressive Representation Alignment, arXiv 2503.07334. Name the model with its "
    "fingerprint, the seeds and the settings; they stand in every file's record."
)
NO_CARD = "This model has no card."
MODELS_TITLE, DATA_TITLE, VERSIONS_TITLE = (
    "Models",
    "Data the models were trained on, and other known sources",
    "Versions",
)
