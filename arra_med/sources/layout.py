"""What every layout's reader shares: what it hands out, the terms of its source, and paths that stay in its folder."""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from arra_med.errors import ManifestError
from arra_med.records.cards import load_card
from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import StudyRecord

Layout = Literal[
    "manifest",
    "mimic_cxr",
    "mimic_cxr_jpg",
    "openi",
    "nih_cxr14",
    "chexpert",
    "chexpert_plus",
    "padchest",
    "deepeyenet",
    "odir5k",
    "imagenet",
    "dicom_reports",
    "files",
]
"""How studies lie in a folder; `files` is any folder of DICOM files or images."""

LAYOUTS: tuple[Layout, ...] = get_args(Layout)

NoteKind = Literal["image_without_report", "report_without_image", "shared_by_patients", "excluded", "named_twice"]


_FOLDERS_KNOWN = 4096


@dataclass(frozen=True)
class SourceNote:
    """Something in a source that its records do not tell.

    Attributes:
        kind: `image_without_report` (its record has no text), `report_without_image` (no record), `shared_by_patients`
            (a report whose accession number stands for several patients, so it was given to none), `excluded` (an image
            that the source itself marks as no chest radiograph or no fundus photograph; no record), or `named_twice` (an
            image that an earlier row names too; one record).
        path: The file, or the table and row ("reports.csv row 3"). It may identify a patient: for local lists only.
    """

    kind: NoteKind
    path: str


@dataclass(frozen=True)
class SourceReading:
    """What was found under a path.

    Attributes:
        layout: How it was read.
        records: The studies, in the source's order.
        notes: What they do not tell.
    """

    layout: Layout
    records: list[StudyRecord]
    notes: list[SourceNote]

    @property
    def counts(self) -> dict[NoteKind, int]:
        """Number of notes of each kind."""
        return dict(sorted(Counter(note.kind for note in self.notes).items()))


Found = StudyRecord | SourceNote
LayoutReader = Callable[[Path, Pseudonymizer], Iterator[Found]]


def terms_of(source: str) -> dict[str, Any]:
    """Returns the fields of a record that its source's data card decides.

    Raises:
        CardError: If there is no card, or it is not valid.
    """
    card = load_card(source)
    return {
        "source": card.source,
        "licence": card.licence,
        "redistributable": card.redistributable_weights,
        "attribution": card.attribution,
    }


def missing(folder: Path, layout: str, what: str) -> ManifestError:
    """Returns the error for a folder that is only in part what its layout requires."""
    return ManifestError(f"{folder}: a folder of layout {layout} must hold {what}, which is not there; add it")


class Places:
    """Turns the paths that a table names into paths inside the folder, and refuses all others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = os.path.realpath(folder)
        self._holds_folder = functools.lru_cache(_FOLDERS_KNOWN)(self._holds)

    def inside(self, *parts: str) -> Path | None:
        """Joins parts to the folder.

        Args:
            parts: Relative paths with forward slashes.

        Returns:
            The path, whether or not a file is there; `None` if it is absolute, climbs with `..`, is empty, or leads
            through a link to a place outside the folder.
        """
        place = "/".join(parts)
        steps = place.split("/")
        if not place or place.startswith("/") or ".." in steps or "\\" in place or "\0" in place or ":" in steps[0]:
            return None
        path = self.folder / place
        return path if self._holds(path) else None

    def _holds(self, path: Path) -> bool:
        if path.is_symlink():
            return Path(os.path.realpath(path)).is_relative_to(self._root)
        return path.parent == self.folder or self._holds_folder(path.parent)
