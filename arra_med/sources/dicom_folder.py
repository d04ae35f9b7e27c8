"""A folder of DICOM files. Header text never leaves it: ids are keyed hashes, the rest are closed vocabularies.

Source: DICOM PS3.3 C.7.1.1 (patient), C.7.2.1 (study), PS3.5 6.2 (Age String), PS3.10 7.1 (file preamble).
"""

import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from arra_med.imaging.dicom import deflated_from, silent_pydicom
from arra_med.imaging.orientation import view_position
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import Laterality, StudyRecord, View
from arra_med.sources.folder import LOCAL_LICENCE, report_beside, with_report
from arra_med.sources.patient import age_fields, sex_of

if TYPE_CHECKING:
    from pydicom import Dataset

SOURCE = "local_dicom"
MAX_HEADER_BYTES = 1 << 22
"""The most that is read and inflated of a deflated file before a worker process takes it, 4 MiB."""

_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_META_BYTES = 1 << 16
_PIXEL_GROUP = 0x7FE00000
_OPHTHALMIC_PHOTOGRAPHY = "OP"
_VIEW_TAGS = (
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "SeriesDescription",
    "ProtocolName",
    "StudyDescription",
)
_HEADER_TAGS = (
    "Modality",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "AccessionNumber",
    "PatientID",
    "PatientSex",
    "PatientAge",
    "ImageLaterality",
    "Laterality",
    *_VIEW_TAGS,
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
    dicom, others = split_dicom_files(files)
    seen: set[str] = set()
    records = []
    with silent_pydicom():
        for path in dicom:
            record = record_of(path, folder, read_header(path), pseudonymizer, seen)
            records.append(with_report(record, report_beside(path)))
    return records, others


def split_dicom_files(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Returns the files that are, or are meant as, DICOM, and the others, both in order."""
    dicom = {path for path in files if path.suffix.lower() in _SUFFIXES or _has_preamble(path)}
    dicom -= {path for path in dicom if path.name.upper() == "DICOMDIR"}
    if dicom:
        dicom |= {path for path in files if not path.suffix and path.name.upper() != "DICOMDIR"}
    return [path for path in files if path in dicom], [path for path in files if path not in dicom]


def header_view(path: Path) -> View | None:
    """Returns the projection that a file's header states; `None` if it states none or cannot be read."""
    with silent_pydicom():
        return _view(read_header(path, _VIEW_TAGS))


def _has_preamble(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
    except OSError:
        return False


def record_of(path: Path, folder: Path, header: "Dataset", pseudonymizer: Pseudonymizer, seen: set[str]) -> StudyRecord:
    """Makes the record of a DICOM file, without a report.

    Args:
        path: The file.
        folder: The folder that was named.
        header: What `read_header` returned.
        pseudonymizer: Makes the ids.
        seen: Image ids that are taken; the record's is added. A copy of an instance gets an id of its own place.
    """
    place = path.relative_to(folder).as_posix()
    instance, patient = header_text(header, "SOPInstanceUID"), header_text(header, "PatientID")
    image_id = f"{SOURCE}/{pseudonymizer.of(instance or place)}"
    if image_id in seen:
        image_id = f"{SOURCE}/{pseudonymizer.of(f'{instance} {place}')}"
    seen.add(image_id)
    eye = header_text(header, "ImageLaterality") or header_text(header, "Laterality")
    is_fundus = header_text(header, "Modality") == _OPHTHALMIC_PHOTOGRAPHY
    laterality: dict[str, Laterality] = {"L": "L", "R": "R"}
    return StudyRecord(
        image_id=image_id,
        patient_id=f"{SOURCE}:{pseudonymizer.of(patient)}" if patient else image_id,
        patient_known=bool(patient),
        modality="fundus" if is_fundus else "cxr",
        view=None if is_fundus else _view(header),
        laterality=laterality.get(eye) if is_fundus else None,
        sex=sex_of(header_text(header, "PatientSex")),
        path=str(path),
        source=SOURCE,
        licence=LOCAL_LICENCE,
        redistributable=False,
        **age_fields(header_text(header, "PatientAge")),
    )


def read_header(path: Path, tags: Sequence[str] = _HEADER_TAGS) -> "Dataset":
    """Reads the named attributes of a DICOM file; a file that cannot be read has none of them.

    Of a deflated file no more than `MAX_HEADER_BYTES` are inflated here, where nothing limits the memory.
    """
    import pydicom
    from pydicom.filereader import read_dataset
    from pydicom.tag import BaseTag, Tag

    try:
        with path.open("rb") as stream:
            beginning = stream.read(_META_BYTES)
            body = deflated_from(beginning)
            if body is None:
                return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(tags))
            compressed = beginning[body:] + stream.read(MAX_HEADER_BYTES)
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(compressed, MAX_HEADER_BYTES)
        wanted: list[BaseTag | int] = [Tag(name) for name in tags]
        return read_dataset(
            BytesIO(inflated), False, True, stop_when=lambda tag, *_: tag >= _PIXEL_GROUP, specific_tags=wanted
        )
    except Exception:  # noqa: BLE001 - pydicom raises many types; ingestion quarantines the file with its reason
        return pydicom.Dataset()


def header_text(header: "Dataset", name: str) -> str:
    """Returns an attribute as text without space around it; "" if it is not there or broken."""
    try:
        value = header.get(name)
    except Exception:  # noqa: BLE001 - values are decoded on access, and a broken one counts as unknown
        return ""
    return "" if value is None else str(value).strip()


def _view(header: "Dataset") -> View | None:
    try:
        return view_position(header)
    except Exception:  # noqa: BLE001 - as above
        return None
