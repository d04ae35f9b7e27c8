"""What a study set holds and what ingestion left out, as one HTML page for the person who has to trust it.

The set is streamed: counts come from the columns without pixels, and only a seeded sample of the views is decoded.
Patients are counted, never named; no path stands on the page.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa

from arra_med.corpus.duplicates import read_duplicates
from arra_med.corpus.study_set import StudySetInfo, finished_shards, read_study_set_info
from arra_med.corpus.study_shards import read_refusals
from arra_med.corpus.study_tally import COUNTED, UNKNOWN, SampledRow, StudyTally, sampled_views, tally_studies
from arra_med.errors import StudySetError
from arra_med.imaging.view import as_picture
from arra_med.reporting.charts import distribution_chart
from arra_med.reporting.html import HtmlReport, Value

REPORT_FILE = "report.html"
NUM_THUMBNAILS = 48

_VIEWS_PER_SOURCE = 256  # enough for a stable histogram, seconds to decode
_NUM_BINS = 64
_PERCENTILES = (0, 5, 50, 95, 100)
_SHOWN_LABELS = 30
_TITLES = dict(zip(COUNTED, ("Modality", "Split", "View", "Eye", "Age group", "Sex", "Source", "Report"), strict=True))
_MODALITY_WORDS = {"cxr": "chest radiographs", "fundus": "fundus photographs", "photo": "photographs"}
_CHANNELS = ("red", "green", "blue")


def write_ingest_report(study_set_folder: Path, out: Path, *, seed: int = 0) -> None:
    """Writes the report of a finished study set; the same set and seed give the same bytes.

    Args:
        study_set_folder: The set.
        out: The HTML file to write.
        seed: Chooses the views of the contact sheet and of the histograms.

    Raises:
        StudySetError: If the set is missing, unfinished or damaged.
    """
    info = read_study_set_info(study_set_folder)
    files = finished_shards(study_set_folder, info)
    dropped = read_duplicates(study_set_folder, info.num_duplicates) if info.drops_duplicates else {}
    try:
        tally = tally_studies(files, dropped, views_per_source=_VIEWS_PER_SOURCE, seed=seed)
        views = sampled_views(files, tally.samples)
    except (OSError, pa.ArrowException):
        raise StudySetError(f"{study_set_folder}: a shard is damaged; run arra-med ingest into it again") from None
    report = HtmlReport(
        "Ingestion report",
        subtitle=f"{info.num_studies:,} {_MODALITY_WORDS[info.spec.modality]} as canonical views of "
        f"{info.spec.size_px} × {info.spec.size_px} px",
        banner="Research use only, not for clinical decisions. Contains patient images; licence class: "
        f"{info.licence_class}.",
        footer=f"Study set {info.content_sha256}. "
        + ", ".join(f"{name} {version}" for name, version in sorted(info.versions.items())),
    )
    _add_overview(report, info, tally)
    _add_refusals(report, info, files)
    _add_labels(report, tally)
    _add_quality(report, tally)
    _add_contact_sheet(report, tally, views)
    _add_intensities(report, tally, views)
    _add_terms(report, info)
    report.write(out)


def _add_overview(report: HtmlReport, info: StudySetInfo, tally: StudyTally) -> None:
    section = report.section("Overview")
    num_patients = len(set().union(*tally.patients.values()))
    section.facts(
        {
            "studies": info.num_studies,
            "known patients": num_patients,
            "in quarantine": info.num_quarantined,
            "left out by a rule": sum(info.skipped.values()),
            "sources": len(info.sources),
            "labels": len(set(tally.counts["label"]) - {UNKNOWN}),
        }
    )
    section.counts(
        {
            title: dict(tally.counts[column].most_common())
            for column, title in _TITLES.items()
            if set(tally.counts[column]) != {UNKNOWN}
        }
    )
    splits = tally.counts["split"]
    section.table(
        ("Split", "Studies", "Known patients", "Studies without a known patient"),
        [(split, splits[split], len(tally.patients[split]), tally.without_patient[split]) for split in sorted(splits)],
        "Splits are disjoint by patient; where the patient is unknown, each study counts as its own patient.",
    )


def _add_refusals(report: HtmlReport, info: StudySetInfo, files: Sequence[Path]) -> None:
    section = report.section("Left out")
    if not info.num_quarantined and not info.skipped:
        section.text("Every row of the input became a study.")
    if info.num_quarantined:
        section.table(
            ("Reason", "Files", "What was found (the commonest message)"),
            _quarantine_rows(info, files),
            f"Quarantine: {info.num_quarantined:,} files that became no study. quarantine.jsonl names them; it holds "
            "real paths, so keep it to yourself.",
        )
    if info.skipped:
        rules = sorted(info.skipped.items(), key=lambda item: (-item[1], item[0]))
        section.table(("Rule", "Rows"), rules, "Rows that a rule left out; nothing is wrong with their files.")
    if info.num_duplicates and not info.drops_duplicates:
        section.text(
            f"Images of the set that show the same picture as an earlier one: {info.num_duplicates:,}. "
            "duplicates.jsonl lists them; ingestion can drop them."
        )


def _quarantine_rows(info: StudySetInfo, files: Sequence[Path]) -> list[tuple[str, int, str]]:
    """Returns reason, count and commonest message, the most frequent reason first.

    They come from the footers of the shards, which hold no path; sets of an earlier format have none there.
    """
    messages: dict[str, Counter[str]] = defaultdict(Counter)
    for file in files:
        for refusal in read_refusals(file):
            messages[refusal.reason][refusal.message] += 1
    if info.drops_duplicates and info.num_duplicates:
        messages["duplicate"]["shows the same picture as an earlier image"] = info.num_duplicates
    rows = [(reason, words.total(), words.most_common(1)[0][0]) for reason, words in messages.items()]
    if untold := info.num_quarantined - sum(count for _, count, _ in rows):
        rows.append(("not recorded", untold, "see quarantine.jsonl; ingest again to have the reasons here"))
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _add_labels(report: HtmlReport, tally: StudyTally) -> None:
    section = report.section("Labels")
    if set(tally.counts["label"]) <= {UNKNOWN}:
        section.text("No study has a label.")
        return
    section.text(
        "Labels as the sources give them; a study can have several, and a missing label means unknown, not absent. "
        "Shading is the share of a label's studies that come from a source: a label with one dark cell cannot be told "
        "from its source."
    )
    shown = [label for label, _ in tally.counts["label"].most_common(_SHOWN_LABELS)]
    sources = [source for source, _ in tally.counts["source"].most_common()]
    section.cross_table("Label", sources, {label: tally.labels_by_source[label] for label in shown})
    if len(tally.counts["label"]) > len(shown):
        section.text(f"{len(tally.counts['label']) - len(shown):,} rarer labels are not shown.")


def _add_quality(report: HtmlReport, tally: StudyTally) -> None:
    if not tally.flags and not tally.scores:
        return
    section = report.section("Quality")
    num_studies = tally.counts["modality"].total()
    flags = [(flag, count, f"{count / num_studies:.1%}") for flag, count in tally.flags.most_common()]
    section.table(("Flag", "Studies", "Share"), flags, "What was decided or noticed when the files were read.")
    percentiles = {name: np.percentile(scores, _PERCENTILES) for name, scores in sorted(tally.scores.items())}
    rows: list[list[Value]] = [
        [name, len(tally.scores[name]), *map(float, values)] for name, values in percentiles.items()
    ]
    section.table(("Score", "Studies", "Least", "5%", "Median", "95%", "Greatest"), rows, "Quality scores.")


def _add_contact_sheet(report: HtmlReport, tally: StudyTally, views: Mapping[SampledRow, np.ndarray]) -> None:
    turns = chain.from_iterable(zip_longest(*tally.samples.values()))
    chosen = [row for row in turns if row is not None][:NUM_THUMBNAILS]
    section = report.section("Contact sheet")
    section.text(f"{len(chosen)} views drawn by seed, the sources in turn, so that rare sources are seen too.")
    section.pictures((as_picture(views[row]), row.caption) for row in chosen)


def _add_intensities(report: HtmlReport, tally: StudyTally, views: Mapping[SampledRow, np.ndarray]) -> None:
    shares = {
        source: np.mean([_histogram(views[row]) for row in sample], axis=0) for source, sample in tally.samples.items()
    }
    everything = np.average(list(shares.values()), axis=0, weights=[tally.counts["source"][name] for name in shares])
    # Pure black and pure white hold collimated borders and burnt-out air; they would flatten all else.
    limit = 1.1 * max(float(share[:, 1:-1].max()) for share in shares.values()) or 1.0
    drawings = []
    for source, share in shares.items():
        series = {"this source": share[0], "all": everything[0]}
        if len(share) == len(_CHANNELS):
            series = dict(zip(_CHANNELS, share, strict=True))
        elif len(shares) == 1:
            series = {"this source": share[0]}
        note = f"{len(tally.samples[source]):,} of {tally.counts['source'][source]:,} views"
        lines = {name: [float(value) for value in values] for name, values in series.items()}
        drawings.append(distribution_chart(source, lines, low="0", high="255", limit=limit, note=note))
    report.section("Intensities by source").charts(
        drawings,
        "Share of pixels of the canonical view at each grey value, on one scale; black and white bins may be cut off. "
        "Sources whose curves differ can be told apart by brightness alone.",
    )


def _histogram(view: np.ndarray) -> np.ndarray:
    """Returns the share of pixels in each of 64 bins, (C, 64)."""
    bins = view.reshape(view.shape[0], -1) // (256 // _NUM_BINS)
    return np.stack([np.bincount(channel, minlength=_NUM_BINS) / channel.size for channel in bins])


def _add_terms(report: HtmlReport, info: StudySetInfo) -> None:
    rows = [(source, "; ".join(info.attributions.get(source, ())) or None) for source in info.sources]
    report.section("Sources and terms").text(
        f"Licence class of the whole set: {info.licence_class}, the strictest of its rows."
        + (" Only rows whose weights may be passed on were taken." if info.redistributable_only else "")
    ).table(("Source", "Words owed where its images are shown"), rows)
