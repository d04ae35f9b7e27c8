"""Which training images a generated image resembles most, and how unusual that is for a new image.

What is usual is read off held-out real images, as they are and through the model's image tokenizer, in the same search:
an image that resembles a training image more than nearly all of them do may be a copy, and somebody should look.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.corpus.study_set import StudySet
from arra_med.encoders.base import FrozenEncoder
from arra_med.errors import EvaluationError
from arra_med.evaluate.calibration import HeldOutMatches, HeldOutRows, held_out_rows
from arra_med.evaluate.copies import (
    CONFIDENCE,
    FALSE_ALARM_RATE,
    CopyFinder,
    Match,
    Threshold,
    num_calibration_images,
)
from arra_med.evaluate.feature_spaces import encoder_space, gradient_space
from arra_med.evaluate.held_out import order_by_hash, trained_on
from arra_med.evaluate.quality_gate import FEATURES_FOLDER
from arra_med.imaging.view import as_picture
from arra_med.models.bundle import ModelBundle
from arra_med.reporting.pictures import Panel
from arra_med.runs import sha256_json

NUM_SHOWN = 3
FEWEST_HELD_OUT = 20

MAY_HAVE_TRAINED = "this image is so near to a training image that it may be that image, or another one of that patient: look at the pair"
"""What a flag says of a real image."""

_COST_OF_MATCH = 25  # in images described
_ROUNDING = 1e-9  # so that a rate which just these images can bear does not ask for one more

_OTHER_STUDIES = (
    "the model names another study set than this one, so that which images trained it is taken from this set's splits"
)
_UNKNOWN_PATIENTS = "too few patients of the held-out images are known: some of these images may be of patients who are in training, too"


@dataclass(frozen=True)
class NearTraining:
    """The training images that one image resembles most.

    Attributes:
        matches: The most similar first; similarity is SSIM after registration.
        num_as_near: Held-out images that resemble a training image at least as much.
        num_held_out: Held-out images.
        flagged: Whether it counts as a possible copy.
    """

    matches: tuple[Match, ...]
    num_as_near: int
    num_held_out: int
    flagged: bool

    @property
    def rarity(self) -> str:
        """Says how unusual such a likeness is for a new image; without a full stop."""
        if self.num_as_near == 0:
            return f"Nearer to a training image than all {self.num_held_out} held-out images are to theirs"
        share = 100 * self.num_as_near / self.num_held_out
        told = "fewer than 1" if share < 1 else f"{share:.0f}"
        return f"{told} in 100 held-out images are at least as near to theirs"


@dataclass(frozen=True)
class TrainingSearch:
    """A search that is ready; `open_training_search` makes one.

    Attributes:
        training: The images that trained, in the order of `Match.row`.
        finder: Over them.
        held_out: Similarity of each held-out image to the training image that it resembles most; sorted.
        threshold: What counts as a possible copy.
        source: Whose images are held out.
        notes: What could not be known, in sentences without a capital or full stop.
    """

    training: StudySet
    finder: CopyFinder
    held_out: np.ndarray
    threshold: Threshold
    source: str
    notes: tuple[str, ...]

    def look_up(self, view: np.ndarray, num_images: int = NUM_SHOWN) -> NearTraining:
        """Finds the training images that a uint8 view (C, S, S) resembles most.

        Raises:
            EvaluationError: If the view is not of the training images' kind.
        """
        spec = self.training.spec
        if view.dtype != np.uint8 or view.shape != (spec.channels, spec.size_px, spec.size_px):
            raise EvaluationError(
                f"an image of type {view.dtype} and shape {view.shape} was looked up among {spec.modality} training "
                f"images of {spec.size_px} px: give uint8 images of that kind"
            )
        matches = tuple(self.finder.most_similar(view, num_images))
        as_near = int((self.held_out >= matches[0].similarity).sum())
        flagged = bool(self.threshold.flags([matches[0].similarity])[0])
        return NearTraining(matches, as_near, len(self.held_out), flagged)

    def pictures(self, near: NearTraining) -> list[np.ndarray]:
        """Returns the training images of a result, uint8 (H, W) or (H, W, 3): images of real patients."""
        return [as_picture(self.training.view(match.row)) for match in near.matches]

    def panel(self, near: NearTraining) -> Panel:
        """Returns the nearest training image with what is known of it, to stand beside the stages of a real image."""
        lines = ("a real patient's image", f"likeness {near.matches[0].similarity:.2f}; 1 is identical", near.rarity)
        return Panel("Nearest training image", self.pictures(near)[0], lines)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the answers, as JSON values; names no image."""
        return {
            "study_set_sha256": self.training.content_sha256,
            "num_training": len(self.training),
            "spaces": [space.name for space in self.finder.spaces],
            "source_of_held_out": self.source,
            "num_held_out": len(self.held_out),
            "threshold": self.threshold.similarity,
            "false_alarm_rate": self.threshold.false_alarm_rate,
            "confidence": self.threshold.confidence,
            "notes": list(self.notes),
        }


def open_training_search(
    studies: StudySet,
    bundle: ModelBundle,
    *,
    encoder: FrozenEncoder | None = None,
    report: Callable[[float], None] | None = None,
) -> TrainingSearch:
    """Describes the training images and matches the held-out ones; minutes the first time.

    What it computes is kept in the study set's folder, mode 0600, where that can be written, and nowhere else.

    Args:
        studies: The study set that the bundle was trained on.
        bundle: Whose images will be looked up.
        encoder: Proposes candidates beside the directions of edges; slow on a CPU.
        report: Told the share that is done, 0 to 1.

    Raises:
        EvaluationError: If the study set is of another modality or size, or has too few images.
    """
    require_same_view(studies, bundle)
    records, trained = studies.records(), trained_on(bundle.info)
    rows = held_out_rows(records, trained, studies.duplicates, FEWEST_HELD_OUT)
    chosen = _chosen(rows, studies.image_ids)
    rate = _rate_for(len(chosen))
    training = StudySet(studies.folder, studies.info, studies.dataset.select(rows.train))
    spaces = [gradient_space(), *([encoder_space(encoder)] if encoder is not None else [])]
    total = len(training) * len(spaces) + _COST_OF_MATCH * 2 * len(chosen)
    done = 0

    def advance(num: int) -> None:
        nonlocal done
        done += num
        if report is not None:
            report(min(1.0, done / total))

    shown = sha256_json([studies.content_sha256, training.image_ids])
    with _keeping_folder(studies.folder) as folder:
        features = {space.name: space.kept_features(training, folder, shown, advance) for space in spaces}
        finder = CopyFinder(training, spaces, features)
        few = HeldOutRows(rows.train, chosen, [], [], [], rows.patients_known, rows.source)
        held_out = HeldOutMatches(
            finder, studies, few, bundle, folder, False, lambda num: advance(_COST_OF_MATCH * num)
        )
    if report is not None:
        report(1.0)
    similarities = np.maximum(held_out.similarities("calibration"), held_out.similarities("calibration, decoded"))
    notes = [
        *([_UNKNOWN_PATIENTS] if not rows.patients_known else []),
        *([_OTHER_STUDIES] if bundle.info.training.get("study_set_sha256") != studies.content_sha256 else []),
    ]
    return TrainingSearch(training, finder, np.sort(similarities), held_out.threshold(rate), rows.source, tuple(notes))


def require_same_view(studies: StudySet, bundle: ModelBundle) -> None:
    """Makes sure that a study set's images are of the bundle's kind.

    Raises:
        EvaluationError: If modality or size differ.
    """
    own, other = studies.spec, bundle.spec
    if (own.modality, own.size_px) != (other.modality, other.size_px):
        raise EvaluationError(
            f"the study set holds {own.modality} images of {own.size_px} px and the model draws {other.modality} images "
            f"of {other.size_px} px: give the study set that the model was trained on"
        )


def _chosen(rows: HeldOutRows, image_ids: Sequence[str]) -> list[int]:
    """As many held-out images as a threshold needs, drawn by their ids; all where there are no more."""
    usable = sorted([*rows.calibration, *rows.reported])
    order = order_by_hash([image_ids[row] for row in usable], "training search")
    return sorted(usable[at] for at in order[: num_calibration_images(FALSE_ALARM_RATE)])


def _rate_for(num_held_out: int) -> float:
    """The usual false-alarm rate, or the lowest that so few images can bear."""
    if num_held_out >= num_calibration_images(FALSE_ALARM_RATE):
        return FALSE_ALARM_RATE
    return (1 - (1 - CONFIDENCE) ** (1 / num_held_out)) * (1 + _ROUNDING)


@contextmanager
def _keeping_folder(studies: Path) -> Iterator[Path]:
    """A folder in the study set's own; a private one, removed at once, where the study set is read only."""
    folder = studies / FEATURES_FOLDER
    if os.access(folder if folder.exists() else studies, os.W_OK):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="arra-med-search-") as private:
        yield Path(private)
