"""The figures of `arra-med evaluate fidelity` for people: a Markdown table, and one HTML page with sample pairs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arra_med.records.study import StudyRecord
from arra_med.reporting.html import HtmlReport, Section
from arra_med.runs import atomic_file

if TYPE_CHECKING:
    from arra_med.evaluate.fidelity import JudgedImages

BANNER = "Synthetic images. Research use only, not for clinical decisions."

_COLUMNS = ("judge", "metric", "value", "95% interval", "reconstruction floor", "excess", "95% interval of the excess")
_HALF_COLUMNS = ("judge", "metric", "n", "real against real", "reconstructed", "generated")
_READING = (
    "The primary distance is the Fréchet distance on a projection fitted to real training images, at equal n. The floor "
    "is what the tokenizer makes of the real images: no model on it can be better. The excess is what the model adds. "
    "FD-infinity is an extrapolation that nobody measured. Values of different n, judges or projections cannot be compared."
)
_HALVES = (
    "Halves of the patients against the other half, means over random splits: the three columns are comparable with each "
    "other, not with the table above, which has twice as many images."
)
_CREDENTIALED = "credentialed"


def write_reports(
    result: Mapping[str, Any], images: "JudgedImages", records: Sequence[StudyRecord], out: Path, pictures: int
) -> None:
    """Writes `fidelity.md` and `fidelity.html`.

    Args:
        result: What `fidelity.json` holds.
        images: The image sets.
        records: Of the real images; only redistributable ones are shown, with their attribution.
        out: The run's folder.
        pictures: Sample pairs; none of a credentialed bundle.
    """
    with atomic_file(out / "fidelity.md") as partial:
        partial.write_text(markdown_text(result), encoding="utf-8")
    _page(result, images, records, pictures).write(out / "fidelity.html")


def markdown_text(result: Mapping[str, Any]) -> str:
    """Returns the tables as Markdown."""
    lines = ["# Fidelity", "", f"{BANNER} {_what(result)}", "", _READING, "", *_table(_COLUMNS, _rows(result))]
    lines += ["", _HALVES, "", *_table(_HALF_COLUMNS, _half_rows(result)), ""]
    lines += [f"- {told}" for told in _notes(result)]
    return "\n".join(lines) + "\n"


def _page(
    result: Mapping[str, Any], images: "JudgedImages", records: Sequence[StudyRecord], pictures: int
) -> HtmlReport:
    versions = result["versions"]
    footer = f"Made by ARRA-Med {versions['arra-med']}. Study set {result['study_set_sha256'][:12]}."
    page = HtmlReport("Fidelity", banner=BANNER, subtitle=_what(result), footer=footer)
    for judged in result["judges"]:
        primary = judged["rows"][0]
        facts = {"primary distance": primary["value"], "its reconstruction floor": primary["reconstruction_floor"]}
        facts |= {"excess": primary["excess"], "images on each side": primary["num_images"]}
        page.section(f"Judge {judged['judge']}").facts(facts)
    page.section("Metrics").text(_READING).table(_COLUMNS, _rows(result))
    page.section("Floors on halves").text(_HALVES).table(_HALF_COLUMNS, _half_rows(result))
    notes = page.section("Notes")
    for told in _notes(result):
        notes.text(told)
    if pictures and (result["bundle"] or {}).get("licence_class") != _CREDENTIALED:
        _add_pairs(page.section("Sample pairs"), images, records, pictures, result["settings"]["images"] is None)
    return page


def _add_pairs(
    section: Section, images: "JudgedImages", records: Sequence[StudyRecord], pictures: int, paired: bool
) -> None:
    told = "Row by row the real image, its reconstruction, and the synthetic image of its report."
    section.text(told if paired else "Real images, their reconstructions and synthetic images; they do not pair.")
    free = [row for row, record in enumerate(records) if record.redistributable][:pictures]
    shown = []
    for row in free:
        credit = records[row].attribution or records[row].source
        shown.append((_pixels(images.real[row]), f"real ({credit})"))
        if images.reconstructed is not None:
            shown.append((_pixels(images.reconstructed[row]), f"reconstructed ({credit})"))
        shown.append((_pixels(images.generated[row]), "synthetic"))
    section.pictures(shown)


def _pixels(view: np.ndarray) -> np.ndarray:
    return view[0] if view.shape[0] == 1 else view.transpose(1, 2, 0)


def _what(result: Mapping[str, Any]) -> str:
    held, bundle = result["held_out"], result["bundle"]
    name = f"bundle {bundle['name']} ({bundle['variant']})" if bundle else "a folder of images"
    sources = ", ".join(held["sources"]) or "all sources"
    return (
        f"{name[0].upper()}{name[1:]}: {held['num_images']} images against as many real {held['split']} images of "
        f"{held['num_patients']} patients ({sources})."
    )


def _rows(result: Mapping[str, Any]) -> list[tuple[str | float | None, ...]]:
    return [
        (
            judged["judge"],
            _metric(row),
            row["value"],
            _interval(row["interval"]),
            row["reconstruction_floor"],
            row["excess"],
            _interval(row["excess_interval"]),
        )
        for judged in result["judges"]
        for row in judged["rows"]
    ]


def _half_rows(result: Mapping[str, Any]) -> list[tuple[str | float | None, ...]]:
    return [
        (
            judged["judge"],
            row["metric"],
            row["half_num_images"],
            f"{row['half_real_floor']:.3g} (sd {row['half_real_floor_spread']:.2g})",
            row["half_reconstruction_floor"],
            row["half_value"],
        )
        for judged in result["judges"]
        for row in judged["rows"]
        if row["half_num_images"] is not None
    ]


def _metric(row: Mapping[str, Any]) -> str:
    role = {"primary": " (primary)", "extrapolation": " (extrapolation)"}.get(row["role"], "")
    return f"{row['metric']}{role}{' ↑' if row['higher_is_better'] else ''}"


def _interval(interval: Mapping[str, Any] | None) -> str | None:
    return None if interval is None else f"[{interval['low']:.3g}, {interval['high']:.3g}]"


def _notes(result: Mapping[str, Any]) -> Iterator[str]:
    for judged in result["judges"]:
        by = judged["torch_fidelity"]
        yield (
            f"By torch-fidelity, judge {judged['judge']}: FID {by['frechet_distance']:.4g}, KID {by['kernel_distance']:.4g}, "
            f"precision {by['precision']:.3g}, recall {by['recall']:.3g} at n = {by['num_images']}."
        )
        yield (
            f"Judge {judged['judge']}: feature {judged['feature']}, width {judged['width']}, projected to {judged['num_dims']} "
            f"dimensions that hold {judged['explained_share']:.0%} of the variance of {result['num_training_images']} real "
            f"training images; id {judged['judge_id']}."
        )
    for told in result["missing_judges"]:
        yield f"Missing judge {told['judge']}: {told['reason']}."
    diversity = result["diversity"]
    for side in ("generated", "real"):
        if diversity[side]:
            found = diversity[side]
            yield (
                f"Diversity, {side}: MS-SSIM {found['ms_ssim']:.3f} over {found['num_pairs']} pairs of "
                f"{found['num_groups']} prompts, {found['num_scales']} scales."
            )
    yield f"Diversity: {diversity['note']}."
    if pixels := result["pixel_distance"]:
        yield f"Pixel distance ({pixels['unit']}): mean {pixels['mean']:.3g}, smallest {pixels['smallest']:.3g}."
    yield (
        "Intervals, 95%, over patients: delete-a-group jackknife; half-samples without replacement, a rough guide, for "
        "precision, recall, density and coverage."
    )
    if repeated := result["held_out"]["num_repeated_left_out"]:
        yield f"{repeated} held-out images were left out because another image of the study set shows the same picture."
    for judge, sentences in result["unrecorded"].items():
        yield from (f"Judge {judge}: {sentence}." for sentence in sentences)
    if protocol := result["settings"]["protocol"]:
        yield f"Protocol {protocol['name']} ({protocol['source']})."
        yield from (f"Not measured here: {name}: {why}." for name, why in protocol["not_measured"].items())


def _table(columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return lines + [f"| {' | '.join(map(_cell, row))} |" for row in rows]


def _cell(value: str | float | None) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.3g}"
