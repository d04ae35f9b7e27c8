"""Scoring an archive's image-report pairs: in parts that a stopped run keeps, into one ranked table.

Parts lie in a folder beside the table (`scores.csv` -> `.scores.csv.parts`) until the table is written.
"""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from arra_med.corpus.parquet import clear_disk_errors, is_finished, progress_bar, shard_path, write_table
from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError, StudySetError
from arra_med.evaluate.intervals import Interval, auroc_interval
from arra_med.evaluate.pair_scores import PairLikelihoods, encoded_views, other_reports, pair_prompt, score_pairs
from arra_med.models.bundle import ModelBundle
from arra_med.records.study import Split, StudyRecord
from arra_med.runs import atomic_file, sha256_json

FORMAT_VERSION = 1
PART_ROWS = 256
COLUMNS = ("image_id", "score_nats_per_token", "rank", "flagged", "status")

_PART_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("with_report", pa.float64()),
        ("without_report", pa.float64()),
        ("codes", pa.list_(pa.int32())),
    ]
)
_TABLE_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("score_nats_per_token", pa.float64()),
        ("rank", pa.int64()),
        ("flagged", pa.bool_()),
        ("status", pa.string()),
    ]
)


@dataclass(frozen=True)
class ScoredPairs:
    """The pairs of one split, in the study set's order.

    Attributes:
        records: All records.
        scored: (n,) rows of `records` that have a report which describes an image.
        codes: int64 (n, h * w), the images' codes.
        likelihoods: Of the n pairs.
    """

    records: list[StudyRecord]
    scored: np.ndarray
    codes: np.ndarray
    likelihoods: PairLikelihoods


@dataclass(frozen=True)
class ShuffledCheck:
    """How well the score tells true pairs from pairs with another patient's report. `dataclasses.asdict` of it is JSON.

    Attributes:
        drawn_from: `any source`, `own source`, or the name of one source (own reports against its own others).
        auroc: With DeLong's interval over patients; `None` where there are fewer than 2 pairs.
        num_pairs: True pairs, and as many shuffled ones.
        num_patients: Behind them.
        num_left_out: Images for which no other patient has a different report.
        mean_score: Of the true pairs, nats for each token.
        mean_shuffled_score: Of the shuffled ones.
        flagged: Share of the true pairs that the threshold flags.
        shuffled_flagged: Share of the shuffled ones.
    """

    drawn_from: str
    auroc: Interval | None
    num_pairs: int
    num_patients: int
    num_left_out: int
    mean_score: float | None
    mean_shuffled_score: float | None
    flagged: float | None
    shuffled_flagged: float | None


def score_archive(
    studies: StudySet,
    bundle: ModelBundle,
    out: Path,
    *,
    split: Split | None = None,
    threshold: float = 0.0,
    batch_size: int = 16,
    progress: bool = True,
) -> ScoredPairs:
    """Scores the pairs of a study set and writes the ranked table.

    Rank 1 is the least likely pair. A pair is flagged where its score lies below the threshold. A report that describes
    no image has no score: its status says so.

    Args:
        studies: The study set.
        bundle: The model, in float32, on the device to use.
        out: The table, .csv or .parquet; an older one is replaced.
        split: Part of the study set; by default all.
        threshold: In nats for each image token.
        batch_size: Sequences computed at once.
        progress: Whether to show a progress bar.

    Raises:
        EvaluationError: If the table has another suffix, the bundle does not fit the study set, a likelihood is not
            finite, or the table cannot be written.
        StudySetError: If no study has a report.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise EvaluationError(f"{out}: is neither .csv nor .parquet; name a table of one of these kinds")
    _require_fit(studies, bundle)
    chosen = studies.select(split=split)
    records = chosen.records()
    prompts = [pair_prompt(bundle, record) for record in records]
    rows = np.array([row for row, prompt in enumerate(prompts) if prompt is not None], dtype=np.int64)
    if not len(rows):
        raise StudySetError(f"none of {len(records)} studies has a report that describes its image: nothing to score")
    told = [FORMAT_VERSION, studies.content_sha256, split, bundle.fingerprint, batch_size, str(bundle.model.device)]
    folder = out.with_name(f".{out.name}.parts")
    with clear_disk_errors(EvaluationError, out), progress_bar("scoring", len(rows), progress) as advance:
        parts = []
        for index, start in enumerate(range(0, len(rows), PART_ROWS)):
            part, path = rows[start : start + PART_ROWS], shard_path(folder, index)
            fingerprint = sha256_json([*told, part.tolist()])
            if is_finished(path, fingerprint):
                advance(len(part))
            else:
                wanted = [prompts[row] or "" for row in part]
                codes = np.concatenate(
                    [
                        encoded_views(bundle, chosen, part[at : at + batch_size].tolist())
                        for at in range(0, len(part), batch_size)
                    ]
                )
                found = score_pairs(bundle, codes, wanted, batch_size=batch_size, advance=advance)
                columns = (part.tolist(), found.with_report, found.without_report, codes.tolist())
                lines = [dict(zip(_PART_SCHEMA.names, line, strict=True)) for line in zip(*columns, strict=True)]
                write_table(path, lines, _PART_SCHEMA, {"fingerprint": fingerprint})
            parts.append(pq.read_table(path))
        pairs = _scored(records, rows, pa.concat_tables(parts))
        _write(out, _lines(pairs, threshold))
        shutil.rmtree(folder, ignore_errors=True)
    return pairs


def shuffled_checks(
    bundle: ModelBundle,
    pairs: ScoredPairs,
    *,
    threshold: float = 0.0,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = True,
) -> list[ShuffledCheck]:
    """Scores each image with another patient's report, drawn from all sources and from its own, and compares.

    Sources differ in what they show and how they report it, which a score picks up: the figure within a source is the
    harder and the more honest one.

    Args:
        bundle: The model.
        pairs: What `score_archive` found.
        threshold: In nats for each image token.
        seed: Of the draws.
        batch_size: Sequences computed at once.
        progress: Whether to show a progress bar.

    Returns:
        Drawn from any source, from the own source, and the latter for each source alone.

    Raises:
        EvaluationError: If a likelihood is not finite.
    """
    records = [pairs.records[row] for row in pairs.scored]
    own_length = bool(bundle.layout.dropped_text_ids([0]))
    checks = []
    with progress_bar("scoring shuffled pairs", 2 * len(records), progress) as advance:
        for within_source in (False, True):
            prompts = other_reports(bundle, records, within_source=within_source, seed=seed)
            kept = np.array([row for row, prompt in enumerate(prompts) if prompt is not None], dtype=np.int64)
            advance(len(records) - len(kept))
            shuffled = np.full(len(records), np.nan)
            if len(kept):
                found = score_pairs(
                    bundle,
                    pairs.codes[kept],
                    [prompts[row] or "" for row in kept],
                    batch_size=batch_size,
                    without_report=None if own_length else pairs.likelihoods.without_report[kept],
                    advance=advance,
                )
                shuffled[kept] = found.scores
            name = "own source" if within_source else "any source"
            checks.append(_check(name, records, pairs.likelihoods.scores, shuffled, threshold))
            for source in sorted({record.source for record in records}) if within_source else ():
                of_source = np.array([record.source == source for record in records])
                its = [record for record, chosen in zip(records, of_source, strict=True) if chosen]
                true = pairs.likelihoods.scores[of_source]
                checks.append(_check(source, its, true, shuffled[of_source], threshold))
    return checks


def _check(
    name: str, records: Sequence[StudyRecord], true: np.ndarray, shuffled: np.ndarray, threshold: float
) -> ShuffledCheck:
    kept = np.isfinite(shuffled)
    true, other, num_left_out = true[kept], shuffled[kept], int((~kept).sum())
    patients = [record.patient_id for record, chosen in zip(records, kept, strict=True) if chosen]
    if not len(true):
        return ShuffledCheck(name, None, 0, 0, num_left_out, None, None, None, None)
    auroc = None
    if len(true) > 1:
        positive = np.arange(2 * len(true)) < len(true)
        auroc = auroc_interval(np.concatenate([true, other]), positive, patients=[*patients, *patients])
    return ShuffledCheck(
        drawn_from=name,
        auroc=auroc,
        num_pairs=len(true),
        num_patients=len(set(patients)),
        num_left_out=num_left_out,
        mean_score=float(true.mean()),
        mean_shuffled_score=float(other.mean()),
        flagged=float((true < threshold).mean()),
        shuffled_flagged=float((other < threshold).mean()),
    )


def _require_fit(studies: StudySet, bundle: ModelBundle) -> None:
    its, wanted = studies.spec, bundle.spec
    if (its.modality, its.size_px) != (wanted.modality, wanted.size_px):
        raise EvaluationError(
            f"the study set holds {its.modality} views of {its.size_px} px, the bundle reads {wanted.modality} views of "
            f"{wanted.size_px} px: ingest with --modality {wanted.modality} --size {wanted.size_px}, or choose another "
            "bundle"
        )


def _scored(records: list[StudyRecord], rows: np.ndarray, table: pa.Table) -> ScoredPairs:
    given, alone = (table[name].to_numpy() for name in ("with_report", "without_report"))
    codes = np.array(table["codes"].to_pylist(), dtype=np.int64)
    return ScoredPairs(records, rows, codes, PairLikelihoods(given, alone))


def _lines(pairs: ScoredPairs, threshold: float) -> list[dict[str, object]]:
    scores, records = pairs.likelihoods.scores, pairs.records
    order = np.argsort(scores, kind="stable")
    ranked = [
        (records[pairs.scored[at]].image_id, float(scores[at]), rank, bool(scores[at] < threshold), "scored")
        for rank, at in enumerate(order, start=1)
    ]
    without = set(range(len(records))) - set(pairs.scored.tolist())
    unscored = [(records[row].image_id, None, None, False, "no report") for row in sorted(without)]
    return [dict(zip(COLUMNS, line, strict=True)) for line in [*ranked, *unscored]]


def _write(out: Path, lines: list[dict[str, object]]) -> None:
    if out.suffix == ".parquet":
        write_table(out, lines, _TABLE_SCHEMA, {"format_version": FORMAT_VERSION})
        return
    with atomic_file(out) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
