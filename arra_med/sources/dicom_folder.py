"""A folder of DICOM files. Header text never leaves it: ids are keyed hashes, the rest are closed vocabularies.

Source: DICOM PS3.3 C.7.1.1 (patient), C.8.11.5 (View Position), PS3.5 6.2 (Age String), PS3.10 7.1 (file preamble).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arra_med.imaging.dicom import silent_pydicom
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import Laterality, StudyRecord, View, age_group_of
from arra_med.sources.folder import LOCAL_LICENCE, report_beside

if TYPE_CHECKING:
    from pydicom import Dataset

SOURCE = "local_dicom"

_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_OPHTHALMIC_PHOTOGRAPHY = "OP"
_VIEWS: dict[str, View] = {"PA": "PA", "AP": "AP", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral"}
_YEARS_OF_UNIT = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
# Ages of 90 and above identify people and are reported as one group (HIPAA safe harbour, 45 CFR 164.514(b)(2)).
_OLDEST_YEARS = 90.0
_HEADER_TAGS = (
    "Modality",
    "SOPInstanceUID",
    "PatientID",
    "PatientSex",
    "PatientAge",
    "ViewPosition",
    "ImageLaterality",
    "Laterality",
)


def read_dicom_folder(
    folder: Path, files: Sequence[Path], pseudonymizer: Pseudonymizer
) -> tuple[list[StudyRecord], list[Path]]:
    """Makes a record of every file that is, or is meant as, DICOM.

    A file counts if it has the DICOM preamble or a suffix such as .dcm; where there is one, files without any suffix
    count too, since archives write DICOM under bare names. A header that cannot be read leaves everything unknown.

    Args:
        folder: The folder that was named.
        files: The files below it.
        pseudonymizer: Makes the ids.

    Returns:
        The records, and the files that are not DICOM.
    """
    dicom = {path for path in files if path.suffix.lower() in _SUFFIXES or _has_preamble(path)}
    dicom -= {path for path in dicom if path.name.upper() == "DICOMDIR"}
    if dicom:
        dicom |= {path for path in files if not path.suffix and path.name.upper() != "DICOMDIR"}
    seen: set[str] = set()
    records = []
    with silent_pydicom():
        for path in files:
            if path in dicom:
                record = _record(path, folder, pseudonymizer, seen)
                seen.add(record.image_id)
                records.append(record)
    return records, [path for path in files if path not in dicom]


def _has_preamble(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
    except OSError:
        return False


def _record(path: Path, folder: Path, pseudonymizer: Pseudonymizer, seen: set[str]) -> StudyRecord:
    header = _read_header(path)
    place = path.relative_to(folder).as_posix()
    instance, patient = _text(header, "SOPInstanceUID"), _text(header, "PatientID")
    image_id = f"{SOURCE}/{pseudonymizer.of(instance or place)}"
    if image_id in seen:
        image_id = f"{SOURCE}/{pseudonymizer.of(f'{instance} {place}')}"
    age = _age_years(_text(header, "PatientAge"))
    sex = _text(header, "PatientSex")
    eye = _text(header, "ImageLaterality") or _text(header, "Laterality")
    is_fundus = _text(header, "Modality") == _OPHTHALMIC_PHOTOGRAPHY
    laterality: dict[str, Laterality] = {"L": "L", "R": "R"}
    report = report_beside(path)
    return StudyRecord(
        image_id=image_id,
        patient_id=f"{SOURCE}:{pseudonymizer.of(patient)}" if patient else image_id,
        modality="fundus" if is_fundus else "cxr",
        view=None if is_fundus else _VIEWS.get(_text(header, "ViewPosition").upper()),
        laterality=laterality.get(eye) if is_fundus else None,
        sex="M" if sex == "M" else "F" if sex == "F" else None,
        age=age,
        age_group=age_group_of(age),
        path=str(path),
        report=report,
        report_kind="written" if report else None,
        source=SOURCE,
        licence=LOCAL_LICENCE,
        redistributable=False,
        patient_known=bool(patient),
    )


def _read_header(path: Path) -> "Dataset":
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_HEADER_TAGS))
    except Exception:  # noqa: BLE001 - pydicom raises many types; ingestion quarantines the file with its reason
        return pydicom.Dataset()


def _text(header: "Dataset", name: str) -> str:
    try:
        value = header.get(name)
    except Exception:  # noqa: BLE001 - values are decoded on access, and a broken one counts as unknown
        return ""
    return "" if value is None else str(value).strip()


def _age_years(text: str) -> float | None:
    parts = re.fullmatch(r"(\d{1,3})([YMWD])", text)
    return min(int(parts[1]) * _YEARS_OF_UNIT[parts[2]], _OLDEST_YEARS) if parts else None
