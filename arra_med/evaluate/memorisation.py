"""The memorisation attack: does the report of one training image draw that image?

Reports that no other image has are given to the model several times; what it draws is searched for that very image and
for any other training image.

Source: Carlini et al., "Extracting training data from diffusion models", USENIX Security 2023.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arra_med.corpus.dataset import TrainingDataset
from arra_med.corpus.study_rows import encode_png
from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError, ReportError
from arra_med.evaluate.copies import CopyFinder, Threshold
from arra_med.evaluate.proportions import Rate
from arra_med.generate.decoding import decode_image_tokens, open_backend
from arra_med.generate.sampling import SamplingRules
from arra_med.imaging.view import to_uint8
from arra_med.models.bundle import ModelBundle
from arra_med.records.report import report_prompt
from arra_med.records.study import StudyRecord
from arra_med.runs import atomic_file, sha256_json, write_json

NUM_SEEDS = 10
SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class AttackedRow:
    """What one training image's report drew.

    The drawn image that is most suspicious is kept beside it as a PNG file (`MemorisationAttack.path`).

    Attributes:
        image_id: The training image.
        own: SSIM of each drawn image to it, after registration.
        similarity: SSIM of each drawn image to the training image it resembles most.
        nearest: That training image's id.
        distances: Of each drawn image to the nearest training image, by feature space.
    """

    image_id: str
    own: tuple[float, ...]
    similarity: tuple[float, ...]
    nearest: tuple[str, ...]
    distances: dict[str, tuple[float, ...]]

    @property
    def worst(self) -> tuple[int, float, str]:
        """The most suspicious drawn image: its seed, its SSIM and the id of the training image that it resembles."""
        found = max(
            [(value, seed, self.image_id) for seed, value in enumerate(self.own)]
            + [
                (value, seed, name)
                for seed, (value, name) in enumerate(zip(self.similarity, self.nearest, strict=True))
            ]
        )
        return found[1], found[0], found[2]


@dataclass(frozen=True)
class Memorisation:
    """What the attack found.

    Attributes:
        num_seeds: Images drawn for each report.
        rows_with_own_copy: Attacked reports that drew their own image at least once.
        rows_with_any_copy: Attacked reports that drew some training image at least once.
        images_with_own_copy: Drawn images that are a copy of their own report's image; its interval takes the images
            of one report for independent.
        images_with_any_copy: Drawn images that are a copy of any training image.
        row_false_alarm_rate: What `rows_with_any_copy` may be by chance: the threshold's rate for each of the seeds.
    """

    num_seeds: int
    rows_with_own_copy: Rate
    rows_with_any_copy: Rate
    images_with_own_copy: Rate
    images_with_any_copy: Rate
    row_false_alarm_rate: float


def unique_prompt_images(records: Sequence[StudyRecord], images: Sequence[int]) -> list[int]:
    """Returns those of some images whose own report makes a prompt that no other of them has, in order.

    The report is the archive's, not a wording that training drew: two images of the same findings do not become unique
    because they were worded differently.

    Args:
        records: Of all images.
        images: Rows of `records`, the training images.
    """
    prompts = {image: text for image in images if (text := _own_prompt(records[image])) is not None}
    counts = Counter(prompts.values())
    return [image for image, text in prompts.items() if counts[text] == 1]


class MemorisationAttack:
    """Attacks training images one by one; every finished one is kept in a folder, and a restarted attack goes on.

    Args:
        bundle: The model.
        dataset: Its training examples, made with `evaluation=True` and the training's seed, so that wordings are those
            that training used.
        finder: Over the training images in the order of `training`.
        training: The training images, such as a selection of the study set.
        out: Folder of the results; holds image ids and drawn images, all of mode 0600.
        num_epochs: Epochs that training had: the seeds take turns in their wordings.
        num_seeds: Images drawn for each report, with seeds from 0.
        rules: Guidance and sampling.

    Raises:
        EvaluationError: If `out` holds an attack with other settings, or the dataset does not fit.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        dataset: TrainingDataset,
        finder: CopyFinder,
        training: StudySet,
        out: Path,
        *,
        num_epochs: int = 1,
        num_seeds: int = NUM_SEEDS,
        rules: SamplingRules | None = None,
    ) -> None:
        if not dataset.evaluation:
            raise EvaluationError("the attack needs a dataset made with evaluation=True: no view may be drawn")
        if num_seeds < 1 or num_epochs < 1:
            raise EvaluationError(
                f"{num_seeds} seeds and {num_epochs} epochs were given: at least 1 of each is required"
            )
        self.bundle, self.dataset, self.finder = bundle, dataset, finder
        self.backend = open_backend("auto", bundle.model, bundle.layout)
        self.out, self.num_epochs, self.num_seeds = out, num_epochs, num_seeds
        self.rules = rules or SamplingRules()
        self._ids = training.image_ids
        self._row_of_id = {image_id: row for row, image_id in enumerate(self._ids)}
        self._claim()

    def run(self, images: Sequence[int], advance: Callable[[int], None] | None = None) -> list[AttackedRow]:
        """Attacks some images of the corpus; finished ones are read back.

        Args:
            images: Rows of the corpus, such as from `unique_prompt_images`.
            advance: Told of each.

        Raises:
            EvaluationError: If an image is not among the training images.
            GenerationError: If the model is damaged.
        """
        examples = {image: index for index, (image, _) in enumerate(self.dataset.examples)}
        rows = []
        for image in images:
            image_id = self.dataset.corpus.records[image].image_id
            if image not in examples or image_id not in self._row_of_id:
                raise EvaluationError(
                    "an image to attack is not among the training images: corpus and study set differ"
                )
            path = self.path(image_id)
            row = _read_row(path, image_id, self.num_seeds)
            if row is None or not path.with_suffix(".png").is_file():
                views = self._drawn(examples[image])
                row = self._judged(views, image_id)
                with atomic_file(path.with_suffix(".png"), 0o600) as partial:
                    partial.write_bytes(encode_png(views[row.worst[0]]))
                write_json(path, asdict(row), mode=0o600)
            rows.append(row)
            if advance is not None:
                advance(1)
        return rows

    @property
    def trained_images(self) -> list[int]:
        """Rows of the corpus that are among the training images, in order."""
        records = self.dataset.corpus.records
        return [image for image in self.dataset.images if records[image].image_id in self._row_of_id]

    def path(self, image_id: str) -> Path:
        """Returns the file of an attacked image's result; the drawn image lies beside it as `.png`."""
        return self.out / f"{hashlib.sha256(image_id.encode()).hexdigest()[:16]}.json"

    def _judged(self, views: Sequence[np.ndarray], image_id: str) -> AttackedRow:
        own_row = self._row_of_id[image_id]
        matches = self.finder.matches(views)
        return AttackedRow(
            image_id=image_id,
            own=tuple(self.finder.similarity_to(view, own_row) for view in views),
            similarity=tuple(match.similarity for match in matches),
            nearest=tuple(self._ids[match.row] for match in matches),
            distances={
                space.name: tuple(match.distances[space.name] for match in matches) for space in self.finder.spaces
            },
        )

    def _drawn(self, example: int) -> list[np.ndarray]:
        """One image for each seed, uint8 (C, S, S)."""
        layout, prompts = self.bundle.layout, []
        epoch = self.dataset.epoch
        for seed in range(self.num_seeds):
            self.dataset.epoch = seed % self.num_epochs
            prompts.append(layout.prompt_ids(self.dataset.draw(example).text_ids))
        self.dataset.epoch = epoch
        codes = decode_image_tokens(
            self.bundle.model, layout, prompts, self.rules, range(self.num_seeds), backend=self.backend
        )
        with torch.no_grad():
            pictures = [self.bundle.image_tokenizer.decode(one[None].to(self.bundle.model.device))[0] for one in codes]
        return [to_uint8(picture.float().cpu().numpy()) for picture in pictures]

    def _claim(self) -> None:
        """Writes what decides the results into the folder, or checks that it is the same."""
        told = {
            "bundle": self.bundle.fingerprint,
            "corpus": self.dataset.corpus.info.study_set_sha256,
            "spaces": [space.fingerprint for space in self.finder.spaces],
            "training": sha256_json(self._ids),
            "data_seed": self.dataset.seed,
            "num_epochs": self.num_epochs,
            "num_seeds": self.num_seeds,
            "backend": self.backend.name,
            "rules": self.rules.model_dump(mode="json"),
        }
        path = self.out / SETTINGS_FILE
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found is None and any(self.out.glob("*.json")):
            raise EvaluationError(f"{self.out}: holds results but no readable {SETTINGS_FILE}: choose another folder")
        if found not in (None, told):
            raise EvaluationError(
                f"{self.out}: holds an attack on another model or with other settings: choose another folder"
            )
        write_json(path, told)


def summarise(rows: Sequence[AttackedRow], threshold: Threshold) -> Memorisation:
    """Counts copies.

    Args:
        rows: Of `MemorisationAttack.run`.
        threshold: What counts as a copy.

    Raises:
        EvaluationError: If there is no row.
    """
    if not rows:
        raise EvaluationError("no training image has a report of its own: there is nothing to attack")
    own = np.stack([threshold.flags(row.own) for row in rows])
    any_copy = np.stack([threshold.flags(row.similarity) for row in rows]) | own
    num_seeds = own.shape[1]
    return Memorisation(
        num_seeds=num_seeds,
        rows_with_own_copy=Rate.of(np.asarray(own.any(axis=1))),
        rows_with_any_copy=Rate.of(np.asarray(any_copy.any(axis=1))),
        images_with_own_copy=Rate.of(own.ravel()),
        images_with_any_copy=Rate.of(any_copy.ravel()),
        row_false_alarm_rate=1 - (1 - threshold.false_alarm_rate) ** num_seeds,
    )


def _own_prompt(record: StudyRecord) -> str | None:
    try:
        return report_prompt(
            record.report,
            modality=record.modality,
            view=record.view,
            age_group=record.age_group,
            laterality=record.laterality,
        ).text
    except ReportError:
        return None


def _read_row(path: Path, image_id: str, num_seeds: int) -> AttackedRow | None:
    """A finished row; none if it is missing or damaged."""
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        row = AttackedRow(
            told["image_id"],
            tuple(told["own"]),
            tuple(told["similarity"]),
            tuple(told["nearest"]),
            {name: tuple(values) for name, values in told["distances"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    complete = {num_seeds} == {len(part) for part in (row.own, row.similarity, row.nearest, *row.distances.values())}
    return row if row.image_id == image_id and complete else None
