"""The sample pairs of a study's report: the same studies and image seeds through every arm, chosen before any was drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arra_med.corpus.views import digest_of_bytes
from arra_med.evaluate.drawing import held_out_prompts, read_drawing, reconstruct_images
from arra_med.evaluate.study_run import TEST, Study
from arra_med.evaluate.study_settings import StudyRun
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import StudyRecord
from arra_med.records.wording import canonical_labels

NUM_SAMPLES = 6


@dataclass(frozen=True)
class Picture:
    """One picture of a row of samples.

    Attributes:
        kind: What it is.
        name: Of the arm; empty otherwise.
        pixels: uint8, (H, W) grayscale or (H, W, 3) RGB.
        attribution: Words owed to the source of a real one.
    """

    kind: Literal["real", "reconstructed", "synthetic"]
    name: str
    pixels: np.ndarray
    attribution: str = ""


@dataclass(frozen=True)
class Sample:
    """One held-out study through every arm.

    Attributes:
        words: The prompt where it may be shown, else the harmonised findings.
        is_prompt: Whether `words` are the prompt.
        image_seed: Of the synthetic pictures.
        training_seed: Of the arms' trainings.
        pictures: Real and reconstructed ones only of an image that may be passed on.
    """

    words: str
    is_prompt: bool
    image_seed: int
    training_seed: int
    pictures: tuple[Picture, ...]


def sample_pairs(study: Study) -> list[Sample]:
    """Returns some test studies with every arm's picture of the first training seed.

    The studies are chosen by a hash of their names, those with findings not yet shown first: nobody picked them.

    Args:
        study: All of its tasks are done.
    """
    config, real = study.config, study.real(TEST)
    seed = config.seeds[0]
    rows = chosen_rows(real.records)
    bundle = ModelBundle.load(study.bundle_folder(StudyRun(config.baseline, seed)))
    prompts = held_out_prompts(bundle, [real.records[row] for row in rows])
    again = reconstruct_images(bundle, real.views[rows])
    drawn = {arm: read_drawing(study.drawing_folder(StudyRun(arm, seed), TEST))[rows] for arm in config.arms}
    samples = []
    for number, row in enumerate(rows):
        record = real.records[row]
        pictures = []
        if record.redistributable:
            pictures += [
                Picture("real", "", _pixels(real.views[row]), record.attribution),
                Picture("reconstructed", "", _pixels(again[number]), record.attribution),
            ]
        pictures += [Picture("synthetic", arm, _pixels(images[number])) for arm, images in drawn.items()]
        words = (
            prompts[number] if may_show_prompt(record) else ", ".join(canonical_labels(record)) or "no findings known"
        )
        samples.append(Sample(words, may_show_prompt(record), config.image_seed + row, seed, tuple(pictures)))
    return samples


def may_show_prompt(record: StudyRecord) -> bool:
    """Whether a prompt holds no clinician's words and its source may be passed on."""
    return record.redistributable and record.report_kind in ("from_labels", "keywords")


def chosen_rows(records: Sequence[StudyRecord], num_samples: int = NUM_SAMPLES) -> list[int]:
    """Returns rows by a hash of their names, one of each set of findings before a second one of any."""
    order = sorted(range(len(records)), key=lambda row: digest_of_bytes(b"sample", records[row].image_id.encode()))
    times: dict[tuple[str, ...], int] = {}
    rank = {}
    for row in order:
        findings = tuple(sorted(canonical_labels(records[row])))
        rank[row] = times[findings] = times.get(findings, 0) + 1
    return sorted(sorted(order, key=lambda row: rank[row])[:num_samples])


def _pixels(view: np.ndarray) -> np.ndarray:
    """A view (C, S, S) as a picture: (S, S), or (S, S, 3)."""
    return view[0] if len(view) == 1 else np.moveaxis(view, 0, -1)
