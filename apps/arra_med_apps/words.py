"""Every sentence of the page: names, labels, hints and the example reports."""

from dataclasses import dataclass
from typing import Literal

from arra_med.records.study import AgeGroup, Laterality, Modality, View

TITLE = "ARRA-Med"
SUBTITLE = "A report becomes an image"
BANNER = "Synthetic images. Research use only, not for clinical decisions."

HEADER = (
    f'<header class="am-header"><h1>{TITLE}</h1><span>{SUBTITLE}</span>'
    f'<div class="am-banner" role="note">{BANNER}</div></header>'
)
GENERATE_TAB = "Generate"

MODALITIES: tuple[tuple[str, Modality], ...] = (("Chest X-ray", "cxr"), ("Fundus photograph", "fundus"))
MODALITY_NAMES: dict[Modality, str] = {value: label for label, value in MODALITIES}

FromReport = Literal["report"]
AS_REPORTED: FromReport = "report"
"""The choice that leaves view, eye or age group to the report."""

VIEWS: tuple[tuple[str, View | FromReport], ...] = (
    ("From report", AS_REPORTED),
    ("PA", "PA"),
    ("AP", "AP"),
    ("Lateral", "lateral"),
)
EYES: tuple[tuple[str, Laterality | FromReport], ...] = (
    ("From report", AS_REPORTED),
    ("Left", "L"),
    ("Right", "R"),
)
AGE_GROUPS: tuple[tuple[str, AgeGroup | FromReport], ...] = (
    ("From report", AS_REPORTED),
    ("Adult", "adult"),
    ("Child", "child"),
)

SCALINGS = ("Smooth", "Pixels")
"""How small images are enlarged; the style sheet knows the second by name."""

REPORT_LABEL = "Report"
REPORT_PLACEHOLDER: dict[Modality, str] = {
    "cxr": "Paste or type a chest X-ray report, for example:\nPA view. Pleural effusion. Heart size is normal.",
    "fundus": "Paste or type an eye report, for example:\nLeft eye. Moderate non-proliferative diabetic retinopathy.",
}
EMPTY_REPORT = "The report box is empty: paste or type a report, or click one of the examples, then generate."
PROMPT_WAITING = "What the model will read appears here while you type."
NO_IMAGES_YET = "Your images appear here"
NO_IMAGES_HINT = "Paste a report or click an example, then press Generate (Ctrl+Enter). The picture forms row by row."

LOADING = "Opening the model. This takes a few seconds the first time."
WAITING = "Waiting: another picture is being made on this computer. Yours starts by itself."
STARTING = "Reading the report."
PLACE_IN_LINE = "Waiting: {before} before yours. It starts by itself."
LINE_FULL = "Too many runs are waiting for the model: try again in a few minutes."
CLOSING = "The app is being closed: your run was ended; start it again when the app is back."
STOPPED = "Stopped. Change the report or the settings and generate again."
UNEXPECTED = "Something went wrong inside the app and no image was made: try again, or restart the app."
UNWRITTEN = "The files cannot be written on this computer ({reason}): free some space on its disk, then try again."
NO_HTTPS = "Warning: passwords and reports travel unencrypted; give certificate and certificate_key, or put a proxy with HTTPS before the app."
SEED_RANGE = "The seed must be a whole number from 0 to 4294967295: press Random seed for one."

GUIDANCE_HINT = "How closely the image follows the report. 1 is off; too high looks exaggerated."
TEMPERATURE_HINT = "Lower is plainer, higher more varied."
TOP_K_HINT = "At each step, choose among the k likeliest image tokens. 0 means all."
SEED_HINT = "The same seed and settings give the same image. Image 2 uses the next seed, and so on."
REPEATABLE = "The same report, seed and settings give the same images."
PROVENANCE_HINT = "Every PNG carries these settings in its metadata. Your report is not stored in it."

TRAINING_PREPARING = (
    "Reading the training images and matching held-out ones against them. This takes minutes once and is kept."
)
PATIENTS_NOTICE = "Training images show real patients. They are shown on this computer alone and not kept by the page."

MINI_LIMITS: dict[Modality, tuple[str, ...]] = {
    "cxr": (
        "A small model, made to try the method on an ordinary computer: fine detail is not trustworthy.",
        "It follows view and age group; that it draws the finding a report names could not be shown.",
        "Its training labels hold no side, severity, device or measurement, so the image does not follow those words.",
        "It has learnt frontal views only.",
        "Finding and source of its training images go together: most pneumonia is in children.",
    ),
    "fundus": (
        "A small model, made to try the method on an ordinary computer: fine detail is not trustworthy.",
        "Its training labels hold no place, size or number of lesions, so the image does not follow those words.",
    ),
}
"""What the bundled models cannot do; a radiologist should read it before the images."""

LICENCE_CLASSES = {
    "open": "weights trained on openly licensed images",
    "research-only": "weights for research only, non-commercial",
    "credentialed": "weights trained on credentialed data: do not pass on",
}


@dataclass(frozen=True)
class Example:
    """A report that can be clicked.

    Attributes:
        name: The button's text.
        modality: Which model it is for.
        report: The report.
    """

    name: str
    modality: Modality
    report: str


EXAMPLES: tuple[Example, ...] = (
    Example(
        "Normal",
        "cxr",
        "PA view.\n\nFINDINGS: The lungs are clear. Heart size is normal. No pleural effusion or pneumothorax.\n\n"
        "IMPRESSION: No acute cardiopulmonary abnormality.",
    ),
    Example("Pleural effusion", "cxr", "PA view.\n\nIMPRESSION: Pleural effusion."),
    Example("Enlarged heart", "cxr", "PA chest radiograph.\n\nIMPRESSION: Cardiomegaly."),
    Example("Pneumothorax", "cxr", "AP view.\n\nIMPRESSION: Pneumothorax."),
    Example(
        "Child, pneumonia",
        "cxr",
        "AP chest radiograph of a 4-year-old.\n\nFINDINGS: Consolidation.\n\nIMPRESSION: Bacterial pneumonia.",
    ),
    Example("COVID-19", "cxr", "Portable AP chest radiograph.\n\nIMPRESSION: COVID-19 pneumonia."),
    Example("Normal", "fundus", "Colour fundus photograph of the left eye. Normal fundus."),
    Example("Diabetic retinopathy", "fundus", "Right eye. Moderate non-proliferative diabetic retinopathy."),
    Example("Glaucoma", "fundus", "Left eye. Glaucoma."),
    Example("Cataract", "fundus", "Right eye. Cataract."),
    Example("Macular degeneration", "fundus", "Left eye. Dry age-related macular degeneration."),
    Example("Myopia", "fundus", "Right eye. Pathological myopia."),
)


def sentence(text: str) -> str:
    """Returns an error message as a sentence in one line: its first letter a capital, a full stop at its end."""
    first, *rules = text.strip().split("\n")
    text = " ".join([first, "; ".join(rules)]).strip()
    if not text:
        return UNEXPECTED
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def unwritten(error: OSError) -> str:
    """Returns what is told of files that could not be written, without their names."""
    return UNWRITTEN.format(reason=error.strerror or type(error).__name__)


def duration(seconds: float) -> str:
    """Returns a time left in words, rounded as people round it: `8 s`, `1 min 20 s`, `12 min`."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min" if minutes >= 10 else f"{minutes} min {rest} s"


def several(count: int, singular: str) -> str:
    """Returns `1 image`, `2 images`, ..."""
    return f"{count} {singular}" + ("" if count == 1 else "s")
