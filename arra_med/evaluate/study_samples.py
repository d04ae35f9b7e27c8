"""The sample pairs of a study's report: the same studies and image seeds through every arm, chosen before any was drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arra_med.evaluate.drawing import held_out_prompts, reconstruct_images
from arra_med.evaluate.held_out import order_by_hash
from arra_med.evaluate.study_run import TEST, Study
from arra_med.evaluate.study_settings import StudyRun
from arra_med.imaging.view import as_picture
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
    drawn = {arm: study.drawn(StudyRun(arm, seed), TEST)[rows] for arm in config.arms}
    return [
        sample_of(
            real.records[row],
            prompts[number],
            real=real.views[row],
            reconstructed=again[number],
            drawn={arm: images[number] for arm, images in drawn.items()},
            image_seed=config.image_seed + row,
            training_seed=seed,
        )
        for number, row in enumerate(rows)
    ]


def sample_of(
    record: StudyRecord,
    prompt: str,
    *,
    real: np.ndarray,
    reconstructed: np.ndarray,
    drawn: Mapping[str, np.ndarray],
    image_seed: int,
    training_seed: int,
) -> Sample:
    """Returns what may be shown of one study.

    Args:
        record: The study.
        prompt: What the arms were given.
        real: uint8 (C, S, S), its image.
        reconstructed: uint8 (C, S, S), encoded and decoded.
        drawn: uint8 (C, S, S) by arm.
        image_seed: Of the drawn ones.
        training_seed: Of the arms' trainings.
    """
    pictures = []
    if record.redistributable:
        pictures.append(Picture("real", "", as_picture(real), record.attribution))
        pictures.append(Picture("reconstructed", "", as_picture(reconstructed), record.attribution))
    pictures += [Picture("synthetic", arm, as_picture(view)) for arm, view in drawn.items()]
    is_prompt = may_show_prompt(record)
    words = prompt if is_prompt else ", ".join(canonical_labels(record)) or "no findings known"
    return Sample(words, is_prompt, image_seed, training_seed, tuple(pictures))


def may_show_prompt(record: StudyRecord) -> bool:
    """Whether a prompt holds no clinician's words and its source may be passed on."""
    return record.redistributable and record.report_kind in ("from_labels", "keywords")


def chosen_rows(records: Sequence[StudyRecord], num_samples: int = NUM_SAMPLES) -> list[int]:
    """Returns rows by a hash of their names, one of each set of findings before a second one of any."""
    order = order_by_hash([record.image_id for record in records], "sample")
    times: dict[tuple[str, ...], int] = {}
    rank = {}
    for row in order:
        findings = tuple(sorted(canonical_labels(records[row])))
        rank[row] = times[findings] = times.get(findings, 0) + 1
    return sorted(sorted(order, key=lambda row: rank[row])[:num_samples])
