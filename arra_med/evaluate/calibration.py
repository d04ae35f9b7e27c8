"""The real images held out from a bundle's training, split by patient, that a copy's threshold is read off.

One part of them shows what "not a copy" looks like, on the other the false alarms are reported.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError
from arra_med.evaluate.copies import CopyFinder, Match, Threshold, calibrated_threshold
from arra_med.evaluate.drawing import reconstruct_images
from arra_med.evaluate.held_out import TrainedOn
from arra_med.evaluate.proportions import Rate
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import StudyRecord
from arra_med.runs import sha256_json, write_json


@dataclass(frozen=True)
class HeldOutRows:
    """Rows of a study set by what they can tell about false alarms.

    Attributes:
        train: Images that the bundle was trained on.
        calibration: Held-out images that the threshold is read off.
        reported: Held-out images of other patients, on which the false-alarm rate is reported.
        others: Held-out images of other sources, or whose patient is not known: training may hold the same patient or
            the same picture under another name (archives mirror each other). Reported apart.
        duplicates: Held-out images that ingestion found in the training images as well (`duplicates.jsonl`): no false
            alarms where they are found.
        patients_known: Whether calibration is disjoint from training by patients, not only by images; where too few
            patients are known, all held-out images of the source are taken.
        source: Whose images calibrate. Splits are disjoint by patient within a source, not across sources.
    """

    train: list[int]
    calibration: list[int]
    reported: list[int]
    others: list[int]
    duplicates: list[int]
    patients_known: bool
    source: str


def held_out_rows(
    records: Sequence[StudyRecord],
    trained: TrainedOn,
    duplicates: Mapping[str, str],
    num_calibration: int,
    source: str | None = None,
) -> HeldOutRows:
    """Splits the rows of a study set.

    Args:
        records: Of all images.
        trained: Which of them trained; the others are held out if they belong to any split.
        duplicates: Images that show the same as an earlier one, each with that one (`StudySet.duplicates`).
        num_calibration: Images that a threshold needs at least; half of the images serve it where that is more.
        source: Whose images calibrate; none: the source with the most held-out images.

    Raises:
        EvaluationError: If there is no training image, or there are too few held-out ones.
    """
    first_of = {record.image_id: duplicates.get(record.image_id, record.image_id) for record in records}
    train = [row for row, record in enumerate(records) if trained(record)]
    inside = set(train)
    held_out = [row for row, record in enumerate(records) if row not in inside and record.split is not None]
    if not train or not held_out:
        raise EvaluationError(
            f"the study set has {len(train)} training and {len(held_out)} held-out images; copies are judged against "
            "held-out ones: give a set with a train and a validation or test split"
        )
    shown = {first_of[records[row].image_id] for row in train}
    doubled = [row for row in held_out if first_of[records[row].image_id] in shown]
    single = sorted(set(held_out) - set(doubled))
    source = source or Counter(records[row].source for row in held_out).most_common(1)[0][0]
    own = [row for row in single if records[row].source == source]
    known = [row for row in own if records[row].patient_known]
    patients_known = len(known) > num_calibration
    usable = known if patients_known else own
    if len(usable) < num_calibration:
        raise EvaluationError(
            f"the threshold of a copy needs {num_calibration} held-out images of source {source}, found {len(usable)}: "
            "ingest more, choose another source, or allow a larger false-alarm rate"
        )
    calibration, reported = calibration_split([records[row].patient_id for row in usable], num_calibration)
    return HeldOutRows(
        train=train,
        calibration=[usable[index] for index in calibration],
        reported=[usable[index] for index in reported],
        others=sorted(set(single) - set(usable)),
        duplicates=doubled,
        patients_known=patients_known,
        source=source,
    )


def calibration_split(patients: Sequence[str], num_calibration: int) -> tuple[list[int], list[int]]:
    """Splits images into those that a threshold is read off and those of other patients that it is tried on.

    Args:
        patients: (n,), whose image each is.
        num_calibration: Images that the threshold needs at least; half of the images where that is more.

    Returns:
        Indices of both parts, in order; the same patients give the same parts.
    """
    by_patient: dict[str, list[int]] = {}
    for index, patient in enumerate(patients):
        by_patient.setdefault(patient, []).append(index)
    calibration: list[int] = []
    for patient in sorted(by_patient, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if len(calibration) >= max(num_calibration, len(patients) / 2):
            break
        calibration += by_patient[patient]
    return sorted(calibration), sorted(set(range(len(patients))) - set(calibration))


class HeldOutMatches:
    """Matches of the held-out images, as they are and through a bundle's image tokenizer.

    Args:
        finder: Over the training images.
        studies: The whole study set.
        rows: Its rows.
        bundle: Whose image tokenizer, on whose device.
        out: Folder that keeps the matches (mode 0600) for the next time.
        progress: Whether to show a progress bar.
        advance: Told of every image as well.

    Attributes:
        matches: By part of `HeldOutRows` such as `reported`, and `reported, decoded`.
    """

    def __init__(
        self,
        finder: CopyFinder,
        studies: StudySet,
        rows: HeldOutRows,
        bundle: ModelBundle,
        out: Path,
        progress: bool,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        names = ("calibration", "reported", "others", "duplicates")
        parts = {name: getattr(rows, name) for name in names}
        told = [
            studies.content_sha256,
            bundle.info.training.get("tokenizer_sha256") or bundle.fingerprint,
            [space.fingerprint for space in finder.spaces],
            rows.train,
            parts,
        ]
        path = out / f"held-out-{sha256_json(told)[:16]}.json"
        kept = _read_matches(path)
        if kept is None:
            kept = {}
            num_views = 2 * sum(map(len, parts.values()))
            with progress_bar("matching held-out images", num_views, progress) as bar:

                def matched(one: int) -> None:
                    bar(one)
                    if advance is not None:
                        advance(one)

                for name, chosen in parts.items():
                    views = [studies.view(row) for row in chosen]
                    kept[name] = finder.matches(views, matched)
                    decoded = list(reconstruct_images(bundle, np.stack(views))) if views else []
                    kept[f"{name}, decoded"] = finder.matches(decoded, matched)
            write_json(path, {name: [asdict(match) for match in found] for name, found in kept.items()}, mode=0o600)
        self.matches = kept

    def similarities(self, name: str) -> np.ndarray:
        """SSIM after registration of one part, float64 (n,)."""
        return np.array([match.similarity for match in self.matches[name]])

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """Reads the threshold off the larger similarity of both kinds: drawn images went through the decoder as well.

        Raises:
            EvaluationError: If there are too few images for that rate.
        """
        largest = np.maximum(self.similarities("calibration"), self.similarities("calibration, decoded"))
        return calibrated_threshold(largest, false_alarm_rate)

    def false_alarms(self, threshold: Threshold) -> dict[str, Any]:
        """Shares of every part but the one for calibration that would count as copies, as JSON values."""
        return {
            name: asdict(Rate.of(threshold.flags(self.similarities(name))))
            for name in self.matches
            if not name.startswith("calibration")
        }


def _read_matches(path: Path) -> dict[str, list[Match]] | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {name: [Match(**match) for match in found] for name, found in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
