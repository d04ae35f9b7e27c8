"""Which layout a folder has, and its reader."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from arra_med.errors import ManifestError
from arra_med.records.manifest import MANIFEST_SUFFIXES, read_manifest
from arra_med.records.pseudonym import Pseudonymizer, load_or_create_key
from arra_med.records.study import Modality, StudyRecord
from arra_med.sources import (
    chexpert,
    deepeyenet,
    dicom_reports,
    imagenet,
    mimic_cxr,
    nih_cxr14,
    odir5k,
    openi,
    padchest,
)
from arra_med.sources.dicom_folder import read_dicom_folder, split_dicom_files
from arra_med.sources.folder import IMAGE_SUFFIXES, visible_files
from arra_med.sources.image_folder import read_image_folder
from arra_med.sources.layout import Found, Layout, LayoutReader, SourceNote, SourceReading, missing

_HEADER_CHARS = 4096


@dataclass(frozen=True)
class _Published:
    """A layout that files of its own tell.

    Attributes:
        read: Its reader.
        marks: Patterns of names, any of which tells the layout.
        column: What the header of a marked table holds, where other data sets use the same names.
    """

    read: LayoutReader
    marks: tuple[str, ...]
    column: str = ""

    def tells(self, folder: Path) -> bool:
        return any(self._holds_column(path) for mark in self.marks for path in folder.glob(mark))

    def _holds_column(self, path: Path) -> bool:
        if not self.column or not path.is_file() or path.suffix != ".csv":
            return not self.column or path.suffix == ".xlsx"
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            return self.column in stream.readline(_HEADER_CHARS).strip().split(",")


_CLASS_FOLDER = "n" + "[0-9]" * 8
# In this order: MIMIC-CXR's folder may hold the tables of MIMIC-CXR-JPG too.
_PUBLISHED: Mapping[Layout, _Published] = {
    "mimic_cxr": _Published(mimic_cxr.read_mimic_cxr, (f"{mimic_cxr.RECORD_LIST}*",)),
    "mimic_cxr_jpg": _Published(mimic_cxr.read_mimic_cxr_jpg, (f"{mimic_cxr.METADATA}*", f"{mimic_cxr.SPLIT}*")),
    "openi": _Published(openi.read_openi, (openi.REPORTS, *openi.IMAGES)),
    "nih_cxr14": _Published(nih_cxr14.read_nih_cxr14, nih_cxr14.TABLES),
    "chexpert": _Published(chexpert.read_chexpert, tuple(chexpert.TABLES), "Frontal/Lateral"),
    "chexpert_plus": _Published(chexpert.read_chexpert_plus, (chexpert.PLUS_TABLE,)),
    "padchest": _Published(padchest.read_padchest, (f"{padchest.TABLE}*",)),
    "deepeyenet": _Published(deepeyenet.read_deepeyenet, tuple(deepeyenet.TABLES)),
    "odir5k": _Published(odir5k.read_odir5k, (odir5k.CSV_TABLE, odir5k.XLSX_TABLES[0]), "Left-Fundus"),
    "imagenet": _Published(
        imagenet.read_imagenet,
        (
            imagenet.NAMES,
            *(f"{data}{part}{_CLASS_FOLDER}" for data in imagenet.DATA for part in ("train/", "val/", "")),
        ),
    ),
    "dicom_reports": _Published(dicom_reports.read_dicom_reports, (dicom_reports.TABLE,), "report"),
}


def read(
    path: Path, layout: Layout | None, modality: Modality | None, pseudonymizer: Pseudonymizer | None
) -> SourceReading:
    """Reads a file or folder; see `arra_med.sources.read_layout`."""
    if not path.exists():
        raise ManifestError(f"{path}: there is no such file or folder; give a manifest or a folder of studies")
    if path.is_file() and layout not in (None, "manifest"):
        raise ManifestError(f"{path}: is a file, but layout {layout} is a folder's; give the folder")
    manifest = path if path.is_file() else _manifest_in(path)
    layout = layout or ("manifest" if manifest else _layout_of(path))
    if layout == "manifest":
        if manifest is None:
            raise missing(path, layout, f"studies{MANIFEST_SUFFIXES[0]} (or {', '.join(MANIFEST_SUFFIXES[1:])})")
        return SourceReading(layout, read_manifest(manifest), [])
    pseudonymizer = pseudonymizer or Pseudonymizer(load_or_create_key())
    if layout == "files":
        return _sorted_out(layout, _read_files(path, modality, pseudonymizer))
    return _sorted_out(layout, _PUBLISHED[layout].read(path, pseudonymizer))


def _manifest_in(folder: Path) -> Path | None:
    return next((path for suffix in MANIFEST_SUFFIXES if (path := folder / f"studies{suffix}").is_file()), None)


def _layout_of(folder: Path) -> Layout:
    for layout, published in _PUBLISHED.items():
        if published.tells(folder):
            return layout
    files = visible_files(folder)
    dicom, others = split_dicom_files(files)
    if dicom and _lone_reports(files) and not any(path.suffix.lower() in IMAGE_SUFFIXES for path in others):
        return "dicom_reports"
    return "files"


def _lone_reports(files: list[Path]) -> list[Path]:
    """Returns the text files that no file of the same stem stands beside."""
    texts = {path for path in files if path.suffix == ".txt"}
    return sorted(texts - {path.with_suffix(".txt") for path in files if path not in texts})


def _read_files(folder: Path, modality: Modality | None, pseudonymizer: Pseudonymizer) -> Iterator[Found]:
    files = visible_files(folder)
    dicom_records, others = read_dicom_folder(folder, files, pseudonymizer)
    records = dicom_records + read_image_folder(folder, others, pseudonymizer, modality)
    if not records:
        raise ManifestError(
            f"{folder}: holds no studies.csv, no DICOM file and no PNG or JPEG image; give a folder with one of them, "
            "or a manifest (.csv, .jsonl, .parquet)"
        )
    yield from records
    for path in _lone_reports(files):
        yield SourceNote("report_without_image", str(path))


def _sorted_out(layout: Layout, found: Iterator[Found]) -> SourceReading:
    records: dict[str, StudyRecord] = {}
    notes: list[SourceNote] = []
    for each in found:
        if isinstance(each, SourceNote):
            notes.append(each)
        elif each.image_id in records:
            notes.append(SourceNote("named_twice", each.path))
        else:
            records[each.image_id] = each
    return SourceReading(layout, list(records.values()), notes)
