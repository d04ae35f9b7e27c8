"""Data layouts: each becomes a list of `StudyRecord`s.

The readers load when they are first called, so that a command can name the layouts without loading decoders.
"""

from pathlib import Path

from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import Modality, StudyRecord
from arra_med.sources.layout import LAYOUTS, Layout, SourceNote, SourceReading

__all__ = ["LAYOUTS", "Layout", "SourceNote", "SourceReading", "read_layout", "read_source"]


def read_layout(
    path: Path,
    *,
    layout: Layout | None = None,
    modality: Modality | None = None,
    pseudonymizer: Pseudonymizer | None = None,
) -> SourceReading:
    """Reads studies from whatever the path is, and notes what became no study.

    A file is a manifest (.csv, .jsonl, .parquet). A folder is read by its layout, which its characteristic files tell; one
    with `studies.csv` (.jsonl, .parquet) is a manifest's, and one without any such file a folder of DICOM files, images or
    both, each with an optional report of the same stem that ends with .txt. Files that are no readable image become records
    too: ingestion sends them to quarantine with a reason.

    Args:
        path: File or folder.
        layout: How to read a folder; by default what its files tell.
        modality: Modality of the images in a folder (`files`) that do not state it; by default grayscale images are chest
            radiographs and colour images fundus photographs.
        pseudonymizer: Makes ids where a source has none or they are not to be shown; by default with the user's own key.

    Raises:
        ManifestError: If the path does not exist, a table or row is wrong, a file that the layout requires is missing, a
            path leaves the folder, or a folder holds no image. No message holds a cell.
        CardError: If a source has no data card.
    """
    from arra_med.sources.registry import read

    return read(path, layout, modality, pseudonymizer)


def read_source(
    path: Path,
    *,
    layout: Layout | None = None,
    modality: Modality | None = None,
    pseudonymizer: Pseudonymizer | None = None,
) -> list[StudyRecord]:
    """Reads studies from whatever the path is; see `read_layout`, whose records it returns."""
    return read_layout(path, layout=layout, modality=modality, pseudonymizer=pseudonymizer).records
