"""Invented identifiers of the 18 kinds that HIPAA's safe harbour names, and places in a DICOM file to plant them.

Source: 45 CFR 164.514(b)(2)(i)(A) to (R).
"""

import itertools
import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import NamedTuple

from pydicom import Dataset

SEED = 20_240_229
KINDS = (
    "names",
    "places",
    "dates",
    "telephone numbers",
    "fax numbers",
    "e-mail addresses",
    "social security numbers",
    "medical record numbers",
    "health plan numbers",
    "account numbers",
    "certificate and licence numbers",
    "vehicle identifiers",
    "device identifiers",
    "web addresses",
    "IP addresses",
    "biometric identifiers",
    "full-face photographs",
    "other unique numbers",
)
_SYLLABLES = ("vath", "quor", "zil", "mreth", "plox", "dwen", "skar", "jyth", "brul", "xand", "gwip", "tzel", "hroon")


class Planted(NamedTuple):
    """An identifier.

    Attributes:
        kind: One of `KINDS`.
        text: As a report or a header writes it.
        traces: What may not be found anywhere: its telling parts.
    """

    kind: str
    text: str
    traces: tuple[str, ...]


class Inventor:
    """Draws identifiers, all different."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.used: set[str] = set()

    def __call__(self, kind: str) -> Planted:
        while True:
            text, *traces = self._draw(kind)
            found = tuple(traces) or (text,)
            if not self.used & set(found):
                self.used |= set(found)
                return Planted(kind, text, found)

    def word(self) -> str:
        return "".join(self.random.choices(_SYLLABLES, k=3)).capitalize()

    def digits(self, count: int) -> str:
        return "".join(self.random.choices("123456789", k=count))

    def _draw(self, kind: str) -> tuple[str, ...]:
        word, digits = self.word(), self.digits
        if kind == "names":
            given = self.word()
            return f"{word}^{given}", word, given
        if kind == "places":
            return f"{digits(4)} {word} Street, {self.word()}ville", word
        if kind == "dates":
            day = date(1935, 1, 1) + timedelta(days=self.random.randrange(30_000))
            return (f"{day:%Y%m%d}",)
        if kind in ("telephone numbers", "fax numbers"):
            return (f"({digits(3)}) {digits(3)}-{digits(4)}",)
        if kind == "e-mail addresses":
            return f"{word.lower()}@{self.word().lower()}.org", word.lower()
        if kind == "social security numbers":
            return (f"{digits(3)}-{digits(2)}-{digits(4)}",)
        if kind == "web addresses":
            return f"https://{word.lower()}.org/{digits(5)}", word.lower()
        if kind == "IP addresses":
            return (f"10.{digits(2)}.{digits(2)}.{digits(2)}",)
        if kind == "full-face photographs":
            return f"{word.lower()}_face_{digits(4)}.jpg", word.lower()
        if kind == "other unique numbers":
            return (f"1.2.826.0.1.{digits(9)}.{digits(9)}",)
        letters = {
            "medical record numbers": "MRN",
            "health plan numbers": "HP",
            "account numbers": "ACCT",
            "certificate and licence numbers": "LIC",
            "vehicle identifiers": "VIN",
            "device identifiers": "SN",
            "biometric identifiers": "BIO",
        }[kind]
        return (f"{letters}{digits(9)}",)


def invent(count: int, seed: int = SEED) -> list[Planted]:
    """Returns identifiers of all kinds in turn."""
    draw = Inventor(seed)
    return [draw(kind) for kind in itertools.islice(itertools.cycle(KINDS), count)]


Slot = Callable[[Dataset, str], None]

_TEXT_KEYWORDS = (
    "AccessionNumber", "AdditionalPatientHistory", "AdmittingDiagnosesDescription", "CommentsOnTheScheduledProcedureStep",
    "CurrentPatientLocation", "DetectorID", "DeviceSerialNumber", "ImageComments", "InstitutionAddress",
    "InstitutionName", "InstitutionalDepartmentName", "IssuerOfPatientID", "MedicalRecordLocator", "NameOfPhysiciansReadingStudy",
    "Occupation", "OperatorsName", "OtherPatientIDs", "OtherPatientNames", "PatientAddress", "PatientComments",
    "PatientID", "PatientMotherBirthName", "PatientName", "PatientTelephoneNumbers", "PerformedStationName",
    "PerformingPhysicianName", "PlateID", "ProtocolName", "ReferringPhysicianName", "ReferringPhysicianAddress",
    "RequestedProcedureDescription", "RequestingPhysician", "ScheduledPerformingPhysicianName", "SeriesDescription",
    "StationName", "StudyDescription", "StudyID", "WindowCenterWidthExplanation", "LUTExplanation", "SoftwareVersions",
)  # fmt: skip
_DATE_KEYWORDS = (
    "AcquisitionDate", "AcquisitionDateTime", "ContentDate", "InstanceCreationDate", "PatientBirthDate",
    "PerformedProcedureStepStartDate", "SeriesDate", "StudyDate",
)  # fmt: skip
_UID_KEYWORDS = (
    "DimensionOrganizationUID", "FrameOfReferenceUID", "IrradiationEventUID", "SeriesInstanceUID", "SOPInstanceUID",
    "StudyInstanceUID", "SynchronizationFrameOfReferenceUID",
)  # fmt: skip
_SEQUENCES = (
    "AnatomicRegionSequence",  # the table does not list it: it stays, and its items are treated
    "OriginalAttributesSequence",
    "ReferencedImageSequence",
    "RequestAttributesSequence",
    "SourceImageSequence",
)


def slots_of(kind: str) -> Iterator[Slot]:
    """Yields the places of a DICOM file where an identifier of a kind can stand."""
    keywords = {"dates": _DATE_KEYWORDS, "other unique numbers": _UID_KEYWORDS}.get(kind, _TEXT_KEYWORDS)
    yield from (_in_attribute(keyword) for keyword in keywords)
    yield from (_in_item(sequence, keywords) for sequence in _SEQUENCES)
    if keywords is _TEXT_KEYWORDS:
        yield from (_in_private, _in_private_item, _in_meta, _in_preamble, _in_overlay_comments, _in_wrong_place)


def plant_everywhere(header: Dataset) -> tuple[str, ...]:
    """Puts an identifier into every place that a header has for one; returns what may not be found anywhere."""
    draw, traces = Inventor(SEED), list[str]()
    texts = tuple(kind for kind in KINDS if kind not in ("dates", "other unique numbers"))
    for kinds in (("dates",), ("other unique numbers",), texts):
        for kind, slot in zip(itertools.cycle(kinds), slots_of(kinds[0]), strict=False):
            planted = draw(kind)
            slot(header, planted.text)
            traces += planted.traces
    return tuple(traces)


def _in_attribute(keyword: str) -> Slot:
    def plant(header: Dataset, text: str) -> None:
        setattr(header, keyword, text)
        if keyword == "SOPInstanceUID":
            header.file_meta.MediaStorageSOPInstanceUID = text

    plant.__name__ = keyword
    return plant


def _in_item(sequence: str, keywords: tuple[str, ...]) -> Slot:
    def plant(header: Dataset, text: str) -> None:
        item = Dataset()
        setattr(item, keywords[len(text) % len(keywords)], text)
        inner = Dataset()
        setattr(inner, keywords[-1], text)
        item.AnatomicRegionModifierSequence = [inner]
        setattr(header, sequence, [item])

    plant.__name__ = f"{sequence}.{keywords[0]}"
    return plant


def _in_private(header: Dataset, text: str) -> None:
    header.private_block(0x0019, text[:60], create=True).add_new(1, "LO", text)


def _in_private_item(header: Dataset, text: str) -> None:
    item = Dataset()
    item.private_block(0x0021, "INVENTED", create=True).add_new(1, "UT", text)
    header.PatientOrientationCodeSequence = [item]


def _in_meta(header: Dataset, text: str) -> None:
    header.file_meta.SourceApplicationEntityTitle = text[:16]
    header.file_meta.PrivateInformationCreatorUID = "1.2.3"
    header.file_meta.PrivateInformation = text.encode().ljust(40)


def _in_preamble(header: Dataset, text: str) -> None:
    header.preamble = text.encode().ljust(128, b"\0")


def _in_overlay_comments(header: Dataset, text: str) -> None:
    header.add_new(0x60004000, "LT", text)
    header.add_new(0x60003000, "OW", text.encode().ljust(64, b"\0"))


def _in_wrong_place(header: Dataset, text: str) -> None:
    header.BodyPartExamined = text
    header.SeriesNumber = "1"
    header.PatientOrientation = text
