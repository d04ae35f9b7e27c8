"""The membership attack on bundles: losses of training and held-out images of one source, and what they give away."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import numpy as np

from arra_med.corpus.dataset import TrainingDataset
from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError
from arra_med.evaluate.held_out_images import HeldOutRows
from arra_med.evaluate.likelihood import ImageLosses, image_losses
from arra_med.evaluate.membership import membership_attack, membership_difference, membership_scores
from arra_med.models.bundle import ModelBundle

Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def audit_membership(
    arms: Mapping[str, ModelBundle],
    datasets: Mapping[str, Mapping[str, TrainingDataset]],
    studies: StudySet,
    rows: HeldOutRows,
    source: str | None,
    bar: Bar,
) -> dict[str, Any]:
    """Attacks each arm within one source, all with the plain view and a wording drawn by the same rule.

    Held-out images that training holds as well are left out.

    Args:
        arms: `bundle` and perhaps `baseline`.
        datasets: Examples of each arm by split, made with `evaluation=True`.
        studies: The study set.
        rows: Its rows.
        source: Whose images; none: the source with the most held-out images.
        bar: Shows progress.

    Returns:
        JSON values: the source, an attack for each arm and signal, and the difference `bundle` minus `baseline`.

    Raises:
        EvaluationError: If the source has too few images.
    """
    records = studies.records()
    duplicates = {records[row].image_id for row in rows.duplicates}
    held_out = [*rows.calibration, *rows.reported, *rows.others]
    source = source or Counter(records[row].source for row in held_out).most_common(1)[0][0]
    scores: dict[str, dict[str, np.ndarray]] = {}
    member: np.ndarray = np.empty(0, dtype=bool)
    patients: list[str] = []
    for arm, bundle in arms.items():
        conditional, unconditional, inside, patients = [], [], [], []
        for split, dataset in datasets[arm].items():
            chosen = [
                index
                for index, image in enumerate(dataset.images)
                if dataset.corpus.records[image].source == source
                and dataset.corpus.records[image].image_id not in duplicates
            ]
            if not chosen:
                continue
            with bar(f"losses of the {arm}, {split}", 2 * len(chosen)) as advance:
                conditional.append(image_losses(bundle, dataset, chosen, advance=advance))
                unconditional.append(image_losses(bundle, dataset, chosen, with_report=False, advance=advance))
            inside += [split == "train"] * len(chosen)
            patients += [dataset.corpus.records[dataset.images[index]].patient_id for index in chosen]
        if not inside:
            raise EvaluationError(f"the corpus has no image of source {source}: choose another source")
        member = np.array(inside)
        scores[arm] = membership_scores(ImageLosses(np.concatenate(conditional), np.concatenate(unconditional)))
    told: dict[str, Any] = {"source": source}
    for arm, its_scores in scores.items():
        told[arm] = {
            signal: asdict(membership_attack(values, member, patients)) for signal, values in its_scores.items()
        }
    if "baseline" in scores:
        told["bundle_minus_baseline"] = {
            signal: asdict(
                membership_difference({arm: scores[arm][signal] for arm in ("baseline", "bundle")}, member, patients)
            )
            for signal in scores["bundle"]
        }
    return told
