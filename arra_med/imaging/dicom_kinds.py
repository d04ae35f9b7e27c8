"""Which DICOM objects are read: single-frame projection radiographs and ophthalmic photographs; the rest by name.

Source: DICOM PS3.4 B.5 (storage classes), PS3.3 C.7.3.1.1.1 (modality), C.7.6.6 (multi-frame), C.8.11.3 (presentation
intent), C.7.6.1.1.1 (burned-in annotation), C.9.2 (overlay planes).
"""

from pydicom import Dataset
from pydicom.uid import UID

from arra_med.imaging.reasons import Flag, Reason, refusal
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import Modality

FLUOROSCOPY = "1.2.840.10008.5.1.4.1.1.12.2"
"""The storage class X-Ray Radiofluoroscopic Image."""

_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
_SECONDARY_CAPTURE = frozenset(
    "1.2.840.10008.5.1.4.1.1.7" + suffix
    for suffix in ("", ".2", ".3", ".4")  # single frame, and the multi-frame ones
)
_STORAGE_CLASSES: dict[Modality, frozenset[str]] = {
    "cxr": _SECONDARY_CAPTURE
    | {
        "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
        "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
        _FOR_PROCESSING,
        FLUOROSCOPY,
    },
    "fundus": _SECONDARY_CAPTURE
    | {
        "1.2.840.10008.5.1.4.1.1.77.1.5.1",  # Ophthalmic Photography, 8 bit
        "1.2.840.10008.5.1.4.1.1.77.1.5.2",  # Ophthalmic Photography, 16 bit
    },
}
_MODALITIES: dict[Modality, frozenset[str]] = {
    "cxr": frozenset({"CR", "DX", "RG", "RF", "OT", "SC", ""}),
    "fundus": frozenset({"OP", "XC", "OT", "SC", ""}),
}
_NAMEABLE_MODALITIES = frozenset(
    {"CR", "CT", "DX", "IO", "MG", "MR", "NM", "OCT", "OP", "PT", "PX", "RF", "RG", "SEG", "SM", "US", "XA", "XC"}
)
_OTHER_KIND: dict[Modality, tuple[Reason, str]] = {
    "cxr": ("not_a_projection_xray", "a projection radiograph (CR, DX, RG, RF or secondary capture) is required"),
    "fundus": ("not_a_fundus_photograph", "an ophthalmic photograph (OP or secondary capture) is required"),
}
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)  # PS3.5 7.6: sixteen repeating groups


def check_kind(header: Dataset, modality: Modality, rules: ReadingRules) -> tuple[Flag, ...]:
    """Refuses what is no image, images of another kind, and what the run does not allow.

    Args:
        header: The data set.
        modality: What the image must show.
        rules: What the run allows.

    Returns:
        What was allowed or left out, for the reader of the study set.

    Raises:
        ImageError: `no_pixels`, `decode_failed` (floating-point pixels), `not_a_projection_xray`,
            `not_a_fundus_photograph`, `not_an_image` (a modality without DICOM files), `multi_frame`, `for_processing` or `burned_in_text`.
    """
    _check_object(header, modality)
    flags: list[Flag] = []
    if is_for_processing(header):
        if not rules.allow_for_processing:
            raise refusal(
                "for_processing",
                "found detector signal FOR PROCESSING, an image FOR PRESENTATION is required; "
                "export that one, or set allow_for_processing",
            )
        flags.append("for_processing")
    if _text(header, "BurnedInAnnotation") == "YES":
        if not rules.allow_burned_in:
            raise refusal(
                "burned_in_text",
                "the image declares burned-in annotation, which may name the patient; "
                "remove the text, or set allow_burned_in",
            )
        flags.append("burned_in_declared")
    if any(header.group_dataset(group) for group in _OVERLAY_GROUPS):
        flags.append("overlay_ignored")
    return tuple(flags)


def is_for_processing(header: Dataset) -> bool:
    """Whether the pixels are detector signal that was not prepared for display (PS3.3 C.8.11.3)."""
    intent = _text(header, "PresentationIntentType")
    return intent == "FOR PROCESSING" or str(header.get("SOPClassUID") or "") == _FOR_PROCESSING


def _check_object(header: Dataset, modality: Modality) -> None:
    if "PixelData" not in header:
        if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
            raise refusal("decode_failed", "found floating-point pixels; 8 to 16 bit integers are required")
        raise refusal("no_pixels", "the DICOM file holds no image; name the file that holds the pixels")
    if modality not in _STORAGE_CLASSES:
        raise refusal("not_an_image", f"found a DICOM file, a PNG or JPEG file is required of a {modality}")
    storage_class, code = UID(str(header.get("SOPClassUID") or "")), _text(header, "Modality")
    reason, required = _OTHER_KIND[modality]
    if storage_class and storage_class not in _STORAGE_CLASSES[modality]:
        named = storage_class.name != str(storage_class)
        known = storage_class.name if named else "an unknown or private storage class"
        raise refusal(reason, f"found {known}; {required}")
    if code not in _MODALITIES[modality]:
        known = code if code in _NAMEABLE_MODALITIES else "of another kind"
        raise refusal(reason, f"found modality {known}; {required}")
    num_frames = int(header.get("NumberOfFrames") or 1)
    if num_frames != 1:
        raise refusal("multi_frame", f"found {num_frames} frames; one image is required, export the frame wanted")


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip().upper()
