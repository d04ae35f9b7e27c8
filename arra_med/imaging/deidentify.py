"""De-identification of a DICOM data set: what may leave the hospital in it, and a list of what was taken out.

Source: DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile (113100) with the option Retain
Longitudinal Temporal Information With Modified Dates (113107). Table E.1-1 is `basic_profile.csv`, 2026c edition as
`dicom-anonymizer` 2.1.0 carries it (BSD-3-Clause), its column for modified dates as `idiscore` 1.2.0 lists it; the two
packages agree on every attribute that both know.

Where the table leaves a choice (X/Z/D), the last action is taken: a conformant image stays conformant, whatever its
kind. Attributes that the table does not list are not all harmless (text has been written into most), so that of those
only numbers, coded terms, well-formed code strings, the maker and what describes the pixels stay. Pixels are never
changed: cleaning them is an option of its own (113101) which is not offered.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple, Protocol

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID

from arra_med.imaging.reasons import refusal
from arra_med.imaging.replacements import DATE_VRS, dummy_of, replaced, shift_dates

PROFILE_FILE = "basic_profile.csv"
METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
"""Codes and meanings of the profile and the option that are applied (PS3.16 CID 7050)."""

_DICOM_ROOT = "1.2.840.10008."
_FIRST_DATA_GROUP = 0x0008
_CURVE_GROUPS, _OVERLAY_GROUPS, _REPEATING = 0x5000, 0x6000, 0xFF00
_OVERLAY_ROWS, _OVERLAY_DATA = 0x0010, 0x3000
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7."  # and the multi-frame ones below it
_PIXEL_GROUPS = frozenset({0x0028, 0x7FE0})
_META_KEPT = ("MediaStorageSOPClassUID", "TransferSyntaxUID")
_META_REPLACED = "MediaStorageSOPInstanceUID"
_OWN_META = frozenset({"FileMetaInformationGroupLength", "FileMetaInformationVersion", *_META_KEPT})
_PATIENT_KEYWORDS = frozenset({"PatientID", "PatientName"})
_PATIENT_SOURCES = ("PatientID", "PatientName", "StudyInstanceUID", "SOPInstanceUID")

_TEXT_VRS = frozenset({"AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"})
_BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "OB or OW"})
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{0,16}")  # PS3.5 6.2
_NUMBER = re.compile(r"[0-9+\-Ee. ]*")
_KEPT_TEXTS = frozenset(
    {
        "CodeMeaning",
        "CodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "Manufacturer",
        "ManufacturerModelName",
        "ModalityLUTType",
        "RescaleType",
    }
)


class Pseudonyms(Protocol):
    """What makes replacements; `arra_med.records.pseudonym.Pseudonymizer` does it with a local key."""

    def of(self, text: str) -> str:
        """Returns the pseudonym of an identifier."""

    def uid(self, uid: str) -> str:
        """Returns the UID that stands for another."""

    def date_shift_days(self, patient: str) -> int:
        """Returns by how many days the dates of a patient move."""


class Rule(NamedTuple):
    """What the profile does to one attribute: an action code of Table E.1-1, and whether a date in it is shifted."""

    action: str
    shifts_dates: bool


class AuditEntry(NamedTuple):
    """What was done to one attribute: never its value.

    Attributes:
        tag: `(gggg,eeee)`; in sequences the tags of the way there come first, joined by `>`.
        action: X removed, Z emptied, D replaced by a dummy or pseudonym, U replaced by another UID, C dates shifted.
        times: How often, since a sequence may hold several items.
    """

    tag: str
    action: str
    times: int


@dataclass(frozen=True)
class Deidentified:
    """A de-identified data set.

    Attributes:
        dataset: With file meta information; ready for `save_as(..., enforce_file_format=True)`, which writes an empty
            preamble.
        audit: What was done, sorted by tag.
    """

    dataset: Dataset
    audit: tuple[AuditEntry, ...]


@cache
def basic_profile() -> Mapping[str, Rule]:
    """Reads Table E.1-1: the rule of a tag by its eight hex digits in lower case, `x` for digits that may be any."""
    text = resources.files("arra_med.imaging").joinpath(PROFILE_FILE).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["tag"]: Rule(row["basic_profile"], row["modified_dates"] == "C") for row in rows}


def patient_of(header: Dataset) -> str:
    """Returns what tells the patient of a header from others: PatientID, else the name, else the study's UID."""
    return next((text for name in _PATIENT_SOURCES if (text := str(header.get(name) or "").strip())), "")


def check_burned_in(header: Dataset) -> None:
    """Refuses an image whose pixels may name the patient, since pixels are copied as they are.

    Raises:
        ImageError: `burned_in_text`, if the header declares such text (PS3.3 C.7.6.1.1.1), is a secondary capture that
            does not deny it, or has an overlay in the unused bits of the pixels (PS3.5 8.1.2, retired).
    """
    declared = str(header.get("BurnedInAnnotation") or "").strip().upper()
    if declared == "YES":
        found = "the header declares text in the pixels"
    elif declared != "NO" and f"{header.get('SOPClassUID')}.".startswith(_SECONDARY_CAPTURE):
        found = "a secondary capture does not declare that its pixels are free of text"
    elif _has_embedded_overlay(header):
        found = "an overlay lies in the unused bits of the pixels"
    else:
        return
    raise refusal(
        "burned_in_text",
        f"{found}, and pixels are copied as they are: look at the image, and allow it only if it names nobody",
    )


def deidentify(header: Dataset, pseudonyms: Pseudonyms, profile: Mapping[str, Rule] | None = None) -> Deidentified:
    """Makes a de-identified copy of a data set.

    Args:
        header: A data set as read from a file, with file meta information; it is not changed. Values are decoded here:
            one that does not fit its attribute is removed.
        pseudonyms: Makes the replacements.
        profile: Rules by tag; by default `basic_profile()`.

    Raises:
        ImageError: `unsupported_transfer_syntax` or `decode_failed`, if the transfer syntax or the storage class is
            none that DICOM names (it could not be told from an identifier), or the image has no UID.
    """
    return _Deidentifier(header, pseudonyms, basic_profile() if profile is None else profile).run()


class _Deidentifier:
    def __init__(self, header: Dataset, pseudonyms: Pseudonyms, profile: Mapping[str, Rule]) -> None:
        patient = patient_of(header)
        self.header = header
        self.pseudonyms = pseudonyms
        self.profile = profile
        self.patient_pseudonym = pseudonyms.of(patient)
        self.shift_days = pseudonyms.date_shift_days(patient)
        self.counts: Counter[tuple[str, str]] = Counter()

    def run(self) -> Deidentified:
        dataset = self.copy(self.header, "")
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = [meaning for _, meaning in METHODS]
        dataset.DeidentificationMethodCodeSequence = [_code_item(value, meaning) for value, meaning in METHODS]
        dataset.LongitudinalTemporalInformationModified = "MODIFIED"
        dataset.file_meta = self.meta(dataset)
        entries = (AuditEntry(tag, action, count) for (tag, action), count in sorted(self.counts.items()))
        return Deidentified(dataset, tuple(entries))

    def meta(self, dataset: Dataset) -> FileMetaDataset:
        """Makes new meta information (PS3.10 7.1): of the old one nothing stays but how the data set is written."""
        old = getattr(self.header, "file_meta", None) or FileMetaDataset()
        syntax = UID(str(old.get("TransferSyntaxUID") or ""))
        if not (syntax.startswith(_DICOM_ROOT) and syntax.is_transfer_syntax):
            raise refusal(
                "unsupported_transfer_syntax",
                "the file names no transfer syntax of the DICOM standard; convert it to Explicit VR Little Endian",
            )
        for element in old:
            if element.keyword not in _OWN_META:
                self.counts[_name(element.tag), "U" if element.keyword == _META_REPLACED else "X"] += 1
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = syntax
        instance = str(old.get(_META_REPLACED) or "")
        meta.MediaStorageSOPClassUID = UID(dataset.get("SOPClassUID") or old.get("MediaStorageSOPClassUID") or "")
        replacement = dataset.get("SOPInstanceUID") or (instance and self.pseudonyms.uid(instance))
        meta.MediaStorageSOPInstanceUID = UID(replacement)
        if not (meta.MediaStorageSOPClassUID.startswith(_DICOM_ROOT) and meta.MediaStorageSOPInstanceUID):
            raise refusal(
                "decode_failed",
                "the header lacks the SOPInstanceUID or a SOPClassUID of the DICOM standard, without which no file "
                "can be written; export the image again from its source",
            )
        return meta

    def copy(self, source: Dataset, place: str) -> Dataset:
        """Returns the de-identified copy of a data set or of a sequence's item that lies at `place`."""
        target = Dataset()
        for tag in sorted(source.keys()):
            if tag.element == 0 and tag.group >= _FIRST_DATA_GROUP:
                continue  # group lengths are retired (PS3.5 7.2) and would be wrong
            where = place + _name(tag)
            try:
                element = None if _is_dropped(tag) else source[tag]
                kept, action = (None, "X") if element is None else self.treat(element, where)
            except (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError):
                kept, action = None, "X"
            if kept is not None:
                target.add(kept)
            if action != "K":
                self.counts[where, action] += 1
        return target

    def treat(self, element: DataElement, where: str) -> tuple[DataElement | None, str]:
        """Returns what an element becomes (`None`: it goes) and the action that was taken."""
        rule = self.profile.get(f"{element.tag:08x}")
        if element.VR in DATE_VRS and (rule is None or rule.shifts_dates) and element.value:
            shifted = shift_dates(element, self.shift_days)
            if shifted is not None:
                return shifted, "K" if element.VR == "TM" else "C"
        if element.keyword in _PATIENT_KEYWORDS and element.value:
            return DataElement(element.tag, element.VR, self.patient_pseudonym), "D"
        action = rule.action.rpartition("/")[2] if rule else self.action_beyond_the_table(element)
        if element.VR == "SQ" and action in ("K", "U*"):
            items = [self.copy(item, f"{where}>") for item in element.value]
            return DataElement(element.tag, "SQ", items), "K"
        if element.VR == "UI" and action == "D":
            action = "U"
        makers: dict[str, Callable[[], DataElement | None]] = {
            "K": lambda: element,
            "X": lambda: None,
            "Z": lambda: DataElement(element.tag, element.VR, None if element.VR != "SQ" else []),
            "D": lambda: dummy_of(element),
            "U": lambda: replaced(element, self.pseudonyms.uid),
        }
        return makers[action](), action

    def action_beyond_the_table(self, element: DataElement) -> str:
        """Returns the action for an attribute that Table E.1-1 does not list; see the module's words."""
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        if element.VR == "UI":
            return "K" if all(str(value).startswith(_DICOM_ROOT) for value in values if value) else "U"
        if element.VR in _TEXT_VRS:
            return "K" if element.keyword in _KEPT_TEXTS else "X"
        if element.VR == "CS":
            return "K" if all(_CODE_STRING.fullmatch(str(value or "")) for value in values) else "X"
        if element.VR in ("DS", "IS"):
            return "K" if all(_NUMBER.fullmatch(str(value)) for value in values if value is not None) else "X"
        if element.VR in _BULK_VRS:
            return "K" if element.tag.group in _PIXEL_GROUPS else "X"
        return "X" if element.VR in DATE_VRS and element.value else "K"


def _has_embedded_overlay(header: Dataset) -> bool:
    groups = {tag.group for tag in list(header.keys()) if tag.group & _REPEATING == _OVERLAY_GROUPS}
    return any((group, _OVERLAY_ROWS) in header and (group, _OVERLAY_DATA) not in header for group in groups)


def _is_dropped(tag: BaseTag) -> bool:
    """Whether an attribute goes unread: private, of no standard, a curve, an overlay, or foreign to a data set."""
    repeating = tag.group & _REPEATING
    return (
        tag.is_private
        or tag.group < _FIRST_DATA_GROUP
        or repeating in (_CURVE_GROUPS, _OVERLAY_GROUPS)
        or not dictionary_has_tag(tag)
    )


def _name(tag: BaseTag) -> str:
    return f"({tag.group:04x},{tag.element:04x})"


def _code_item(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
