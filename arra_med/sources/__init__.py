"""Data layouts: each becomes a list of `StudyRecord`s."""

from pathlib import Path

from arra_med.errors import ManifestError
from arra_med.records.manifest import MANIFEST_SUFFIXES, read_manifest
from arra_med.records.pseudonym import Pseudonymizer, load_or_create_key
from arra_med.records.study import Modality, StudyRecord
from arra_med.sources.dicom_folder import read_dicom_folder
from arra_med.sources.folder import visible_files
from arra_med.sources.image_folder import read_image_folder

__all__ = ["read_source"]


def read_source(
    path: Path, *, modality: Modality | None = None, pseudonymizer: Pseudonymizer | None = None
) -> list[StudyRecord]:
    """Reads studies from whatever the path is.

    In this order: a manifest file (.csv, .jsonl, .parquet); a folder with `studies.csv` (.jsonl, .parquet); a folder of
    DICOM files, images or both, each with an optional report of the same stem that ends with .txt. Files that are no
    readable image become records too: ingestion sends them to quarantine with a reason.

    Args:
        path: File or folder.
        modality: Modality of the images in a folder that do not state it; by default grayscale images are chest
            radiographs and colour images fundus photographs.
        pseudonymizer: Makes ids for files of a folder; by default with the user's own key.

    Raises:
        ManifestError: If the path does not exist, a manifest is wrong, or a folder holds no image.
    """
    if not path.exists():
        raise ManifestError(f"{path}: there is no such file or folder; give a manifest or a folder of studies")
    if path.is_file():
        return read_manifest(path)
    for suffix in MANIFEST_SUFFIXES:
        if (manifest := path / f"studies{suffix}").is_file():
            return read_manifest(manifest)
    pseudonymizer = pseudonymizer or Pseudonymizer(load_or_create_key())
    files = visible_files(path)
    dicom_records, others = read_dicom_folder(path, files, pseudonymizer)
    records = dicom_records + read_image_folder(path, others, pseudonymizer, modality)
    if not records:
        raise ManifestError(
            f"{path}: holds no studies.csv, no DICOM file and no PNG or JPEG image; give a folder with one of them, "
            "or a manifest (.csv, .jsonl, .parquet)"
        )
    return records
