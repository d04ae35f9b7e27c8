"""The figures of `arra-med evaluate fidelity` for people: a Markdown table, and one HTML page with sample pairs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arra_med.generate.session import SYNTHETIC_NOTICE
from arra_med.imaging.view import as_picture
from arra_med.records.study import StudyRecord
from arra_med.reporting.html import HtmlReport, Section, cell
from arra_med.reporting.tables import Table, markdown
from arra_med.runs import atomic_file

if TYPE_CHECKING:
    from arra_med.evaluate.fidelity import JudgedImages

TEXT_FILE, PAGE_FILE = "fidelity.md", "fidelity.html"

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
    with atomic_file(out / TEXT_FILE) as partial:
        partial.write_text(markdown_text(result), encoding="utf-8")
    _page(result, images, records, pictures).write(out / PAGE_FILE)


def markdown_text(result: Mapping[str, Any]) -> str:
    """Returns the tables as Markdown."""
    notes = "\n".join(f"- {told}" for told in _notes(result))
    return f"{markdown(_tables(result), 'Fidelity', f'{SYNTHETIC_NOTICE} {_what(result)}')}\n{notes}\n"


def _page(
    result: Mapping[str, Any], images: "JudgedImages", records: Sequence[StudyRecord], pictures: int
) -> HtmlReport:
    versions = result["versions"]
    footer = f"Made by ARRA-Med {versions['arra-med']}. Study set {result['study_set_sha256'][:12]}."
    page = HtmlReport("Fidelity", banner=SYNTHETIC_NOTICE, subtitle=_what(result), footer=footer)
    for judged in result["judges"]:
        primary = judged["rows"][0]
        facts = {"primary distance": primary["value"], "its reconstruction floor": primary["reconstruction_floor"]}
        facts |= {"excess": primary["excess"], "images on each side": primary["num_images"]}
        page.section(f"Judge {judged['judge']}").facts(facts)
    for table in _tables(result):
        page.section(table.title).text(table.note).table(table.columns, table.rows)
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
        shown.append((as_picture(images.real[row]), f"real ({credit})"))
        if images.reconstructed is not None:
            shown.append((as_picture(images.reconstructed[row]), f"reconstructed ({credit})"))
        shown.append((as_picture(images.generated[row]), "synthetic"))
    section.pictures(shown)


def _what(result: Mapping[str, Any]) -> str:
    held, bundle = result["held_out"], result["bundle"]
    name = f"bundle {bundle['name']} ({bundle['variant']})" if bundle else "a folder of images"
    sources = ", ".join(held["sources"]) or "all sources"
    return (
        f"{name[0].upper()}{name[1:]}: {held['num_images']} images against as many real {held['split']} images of "
        f"{held['num_patients']} patients ({sources})."
    )


def _tables(result: Mapping[str, Any]) -> list[Table]:
    rows, half_rows = _rows(result), _half_rows(result)
    return [
        Table("Metrics", _COLUMNS, tuple(tuple(map(cell, row)) for row in rows), _READING),
        Table("Floors on halves", _HALF_COLUMNS, tuple(tuple(map(cell, row)) for row in half_rows), _HALVES),
    ]


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
