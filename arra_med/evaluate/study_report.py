"""`report.html`, `tables.md` and the plots of a study, from `comparison.json` and the sample pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arra_med.evaluate.study_answer import answer_sentences, limit_sentences, method_sentences, opening_sentences
from arra_med.evaluate.study_checklist import CITATION, claim_checklist
from arra_med.evaluate.study_further_tables import further_tables
from arra_med.evaluate.study_plots import write_plots
from arra_med.evaluate.study_privacy_tables import privacy_tables
from arra_med.evaluate.study_samples import Sample
from arra_med.evaluate.study_tables import (
    compute_table,
    diversity_table,
    effects_table,
    floors_table,
    guidance_table,
    loss_table,
    percent,
    primary_table,
    secondary_tables,
)
from arra_med.generate.session import SYNTHETIC_NOTICE
from arra_med.reporting.html import Cell, HtmlReport, Section
from arra_med.reporting.tables import Table, add_table, escaped, markdown
from arra_med.runs import atomic_file

REPORT_FILE, TABLES_FILE = "report.html", "tables.md"

_FURTHER = {
    "sites": "Images of other sites",
    "teachers": "Teachers",
    "diversity": "Diversity",
    "agreement": "Agreement with the report",
    "utility": "Utility for training",
}
_PLOT_OF = {"Primary distance": "seeds", "Effects": "reductions", "Held-out loss": "curves"}
_SAMPLES_BEFORE = "Held-out loss"
_AGREEMENT_COLUMNS = (
    *("arm", "judge", "finding", "group", "num_images", "num_patients", "num_positives"),
    *("auroc", "difference", "ceiling", "floor"),
)
_SAMPLE_PX = 256
PLOT_WORDS = {
    "seeds": "Each point is one training; a grey line joins the arms of one training seed; bars are means. The floors are "
    "not at the same number of images: see the table of floors.",
    "reductions": "Reduction of the primary distance of each arm against the baseline and the controls.",
    "curves": "Losses by optimiser step, one line for each training seed.",
}


def write_report(out: Path, told: Mapping[str, Any], samples: Sequence[Sample] = ()) -> Path:
    """Writes the report, its tables and its plots into a study's folder.

    Args:
        out: The study's folder.
        told: What `comparison.json` says; nothing else is needed.
        samples: Sample pairs to show.

    Returns:
        The report.
    """
    plots = write_plots(out, told)
    report = HtmlReport(
        _heading(told),
        banner=SYNTHETIC_NOTICE,
        subtitle=told["question"],
        footer=f"arra-med {told['versions'].get('arra-med', '')}, {told['date']}; settings {told['settings']['sha256']}",
    )
    _answer(report.section("Answer"), told)
    for title, tables in _sections(told):
        if title == _SAMPLES_BEFORE and samples:
            _samples(report.section("Sample pairs"), samples)
        section = report.section(title)
        if title in _PLOT_OF and _PLOT_OF[title] in plots:
            section.plot(plots[_PLOT_OF[title]], PLOT_WORDS[_PLOT_OF[title]])
        for table in tables:
            add_table(section, table)
    limits = report.section("Limits")
    for sentence in limit_sentences(told):
        limits.text(sentence)
    _checklist(report.section("CLAIM 2024"), told)
    report.write(out / REPORT_FILE)
    opening = [escaped(sentence) for sentence in opening_sentences(told)]
    with atomic_file(out / TABLES_FILE) as partial:
        text = markdown(report_tables(told), _heading(told), SYNTHETIC_NOTICE, opening)
        partial.write_text(text, encoding="utf-8")
    return out / REPORT_FILE


def report_tables(told: Mapping[str, Any]) -> list[Table]:
    """Returns all tables of a study in order."""
    return [table for _, tables in _sections(told) for table in tables]


def _heading(told: Mapping[str, Any]) -> str:
    return f"Study {told['name']}{', exploratory' if told['exploratory'] else ''}"


def _answer(section: Section, told: Mapping[str, Any]) -> None:
    primary, detectable = told["primary"], told["primary"]["detectable"]
    for sentence in answer_sentences(told):
        section.text(sentence)
    section.facts(
        {
            f"{primary['split']} images": primary["n"],
            "patients": primary["num_patients"],
            "training seeds": len(primary["per_seed"]),
            "smallest detectable reduction": percent(detectable["reduction"]) if detectable else None,
        }
    )
    for sentence in method_sentences(told):
        section.text(sentence)


def _samples(section: Section, samples: Sequence[Sample]) -> None:
    section.text(
        f"{SYNTHETIC_NOTICE} Each row is one held-out study: the same prompt and the same image seed in every arm, all of "
        f"training seed {samples[0].training_seed}. The studies were chosen by a hash, not by eye. A real image and its "
        "reconstruction are shown only where the source lets them be passed on."
    )
    for sample in samples:
        what = "Prompt" if sample.is_prompt else "Findings (the report is not shown)"
        section.text(f"{what}: {sample.words}")
        pictures = []
        for picture in sample.pictures:
            caption = f"synthetic: {picture.name}, seed {sample.image_seed}"
            if picture.kind != "synthetic":
                caption = f"{picture.kind}{f' ({picture.attribution})' if picture.attribution else ''}"
            pictures.append((picture.pixels, caption))
        section.pictures(pictures, _SAMPLE_PX)


def _sections(told: Mapping[str, Any]) -> list[tuple[str, list[Table]]]:
    shown = {**told, "agreement": _estimable(told.get("agreement"))}
    diversity = told.get("diversity") or {}
    if "arms" in diversity:
        shown["diversity"] = None
    return [
        ("Primary distance", [primary_table(told), floors_table(told)]),
        *([("Effects", [effects_table(told)])] if told["primary"]["effects"] else []),
        ("Held-out loss", [loss_table(told)]),
        ("Secondary measures", secondary_tables(told)),
        ("Guidance", [guidance_table(told)]),
        *([("Diversity", [diversity_table(told)])] if "arms" in diversity else []),
        *((title, further_tables(title, shown[key])) for key, title in _FURTHER.items() if shown.get(key)),
        *([("Privacy", privacy_tables(told["privacy"]))] if told.get("privacy") else []),
        ("Compute", [compute_table(told), _machine_table(told)]),
    ]


def _estimable(agreement: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The agreement without the rows that say nothing, whose number stands in their place, and without each seed's value."""
    if not agreement:
        return agreement
    rows = agreement["rows"]
    kept = [{name: row[name] for name in _AGREEMENT_COLUMNS if name in row} for row in rows if not row.get("reason")]
    places = list(dict.fromkeys(_reading(row) for row in kept))
    kept.sort(key=lambda row: places.index(_reading(row)))  # the arms of one reading stand together
    missing = f"{len(rows) - len(kept):,} of {len(rows):,}, with the reason of each in comparison.json"
    told = {name: value for name, value in agreement.items() if not isinstance(value, list | dict)}
    nested = {name: value for name, value in agreement.items() if name not in ("rows", *told)}
    return {**told, "rows_not_estimable": missing, **({"AUROC": kept} if kept else {}), **nested}


def _reading(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row.get("judge"), row["finding"], row.get("group")


def _machine_table(told: Mapping[str, Any]) -> Table:
    compute = told["compute"]
    rows = [
        (Cell("parameters of the language model"), Cell(f"{compute['parameters']:,}")),
        (Cell("sequences of each training"), Cell(f"{compute['sequences']:,}")),
        (Cell("training images"), Cell(f"{compute['num_training_images']:,}")),
        (Cell("devices"), Cell(", ".join(compute["devices"]))),
        *((Cell(name), Cell(version)) for name, version in told["versions"].items()),
    ]
    return Table(
        "Machine and versions", ("what", "value"), tuple(rows), "Counts are those of the baseline's first seed."
    )


def _checklist(section: Section, told: Mapping[str, Any]) -> None:
    rows = [(f"{item.number}. {item.item}", item.answer) for item in claim_checklist(told)]
    section.table(("item, in our own words", "answer"), rows, CITATION)
