"""`report.html`, `tables.md` and the plots of a study, from `comparison.json` and the sample pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arra_med.evaluate.comparison import Tier
from arra_med.evaluate.study_checklist import CITATION, claim_checklist
from arra_med.evaluate.study_further_tables import further_tables
from arra_med.evaluate.study_plots import write_plots
from arra_med.evaluate.study_samples import Sample
from arra_med.evaluate.study_tables import (
    compute_table,
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
    "teachers": "Teachers",
    "diversity": "Diversity",
    "agreement": "Agreement with the report",
    "utility": "Utility for training",
    "privacy": "Privacy",
}
_PLOT_OF = {"Primary distance": "seeds", "Effects": "reductions", "Held-out loss": "curves"}
_SAMPLES_BEFORE = "Held-out loss"
_SAMPLE_PX = 256
PLOT_WORDS = {
    "seeds": "Each point is one training; a grey line joins the arms of one training seed; bars are means. The floors are "
    "not at the same number of images: see the table of floors.",
    "reductions": "Reduction of the primary distance of each arm against the baseline and the controls.",
    "curves": "Losses by optimiser step, one line for each training seed.",
}
_TIER_SENTENCES: dict[Tier, str] = {
    "exceeds the paper": "helped, and by more than the paper reports",
    "matches the paper": "helped, by at least the share that the paper reports",
    "helps": "helped",
    "no matched control": "has no control with its own teacher, so nothing is concluded of it",
    "not shown to help": "was not shown to help",
    "hurts": "made the images worse",
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


def opening_sentences(told: Mapping[str, Any]) -> list[str]:
    """Returns what comes before all tables: what was asked, what could be found, what was found, and how it was judged."""
    detectable = told["primary"]["detectable"]
    return [
        f"Asked: {told['question']}",
        *([_exploratory(told)] if told["exploratory"] else []),
        *answer_sentences(told),
        *([_about_power(detectable)] if detectable else []),
        *_how_it_was_judged(told),
    ]


def answer_sentences(told: Mapping[str, Any]) -> list[str]:
    """Returns the answer in plain sentences; what could have been found comes before what was found."""
    primary, detectable = told["primary"], told["primary"]["detectable"]
    if detectable is None:
        return [
            "Each arm was trained with one seed. Two trainings differ by luck as well, and one seed cannot tell how much: "
            "there is no interval and no verdict."
        ]
    sentences = [
        f"What this study could find: with {detectable['num_seeds']} training seeds for each arm, a reduction of "
        f"{detectable['reduction']:.1%} or more is found {detectable['power']:.0%} of the time. A smaller effect can be missed."
    ]
    for verdict in primary["verdicts"]:
        mine = [effect for effect in primary["effects"] if effect["arm"] == verdict["arm"]]
        against = next(effect["reduction"] for effect in mine if effect["role_against"] == "baseline")
        moved = "fell" if against["reduction"] >= 0 else "rose"
        sentence = (
            f"{verdict['arm']} {_TIER_SENTENCES[verdict['tier']]}. Against the baseline its distance to real images {moved} "
            f"by {percent(abs(against['reduction']))}; the {against['confidence']:.0%} interval over {against['num_seeds']} "
            f"training seeds is a reduction of {percent(against['low'])} to {percent(against['high'])}."
        )
        sentences.append(sentence + _about_controls(mine, primary) + _about_patients(mine))
    if not primary["verdicts"]:
        sentences.append("The study has no treatment, so there is no verdict.")
    return sentences


def _about_controls(mine: Sequence[Mapping[str, Any]], primary: Mapping[str, Any]) -> str:
    """What the treatment's own controls say of it."""
    if "control" not in primary["roles"].values():
        return " The study has no control: any other auxiliary loss might have done the same."
    own = primary["controls"][mine[0]["arm"]]
    judged = [effect for effect in mine if effect["role_against"] == "baseline" or effect["against"] in own]
    if short := [effect["against"] for effect in judged if effect["reduction"]["low"] <= 0]:
        return f" It is not above 0 against {' and '.join(short)}."
    return f" It is above 0 against {' and '.join(own)}, too." if own else ""


def _about_patients(mine: Sequence[Mapping[str, Any]]) -> str:
    """Whether the wider interval, which takes the test patients for a sample as well, agrees."""
    effect = next(effect for effect in mine if effect["role_against"] == "baseline")
    wider, seeds = effect["hierarchical"], effect["reduction"]
    if wider is None or ((wider["low"] > 0) == (seeds["low"] > 0) and (wider["high"] < 0) == (seeds["high"] < 0)):
        return ""
    return f" With other test patients the interval is {percent(wider['low'])} to {percent(wider['high'])}: less sure."


def _heading(told: Mapping[str, Any]) -> str:
    return f"Study {told['name']}{', exploratory' if told['exploratory'] else ''}"


def _exploratory(told: Mapping[str, Any]) -> str:
    return (
        "Exploratory: settings were tried out, or chosen after looking at results. It is judged on the "
        f"{told['primary']['split']} images; it raises a question, it settles none."
    )


def _about_power(detectable: Mapping[str, Any]) -> str:
    return (
        f"What could be found, more exactly: a {detectable['test']}, at a level of {detectable['alpha']:.0%} and a power of "
        f"{detectable['power']:.0%}, from the spread of the {detectable['num_baseline_seeds']} baseline seeds alone "
        f"({detectable['seed_spread']:.3g} as a standard deviation of the log distance). So few seeds know their own spread "
        f"roughly: at the ends of its 95% interval it is {percent(detectable['low'])} or {percent(detectable['high'])}."
    )


def _how_it_was_judged(told: Mapping[str, Any]) -> list[str]:
    primary = told["primary"]
    return [
        "A treatment helps if the 95% interval over seeds lies above 0 against the baseline and against each of its controls. It "
        f"matches the paper if its reduction is also at least {primary['paper_reduction']:.0%} (arXiv 2503.07334, rounded, "
        "with other data and another judge), and exceeds it if the whole interval is above that.",
        f"Start of every arm: {primary['start']}. Judge: {primary['judge']}. Steps: {primary['steps']:,}. Begun "
        f"{told['begun'][:10]}; SHA-256 of the registered settings: {told['settings']['sha256']}.",
    ]


def _answer(section: Section, told: Mapping[str, Any]) -> None:
    primary, detectable = told["primary"], told["primary"]["detectable"]
    if told["exploratory"]:
        section.text(_exploratory(told))
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
    if detectable:
        section.text(_about_power(detectable))
    for sentence in _how_it_was_judged(told):
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
    return [
        ("Primary distance", [primary_table(told), floors_table(told)]),
        *([("Effects", [effects_table(told)])] if told["primary"]["effects"] else []),
        ("Held-out loss", [loss_table(told)]),
        ("Secondary measures", secondary_tables(told)),
        ("Guidance", [guidance_table(told)]),
        *((title, further_tables(title, shown[key])) for key, title in _FURTHER.items() if shown.get(key)),
        ("Compute", [compute_table(told), _machine_table(told)]),
    ]


def _estimable(agreement: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The agreement without the rows that say nothing; how many they are stands in their place."""
    if not agreement:
        return agreement
    rows = agreement["rows"]
    kept = [row for row in rows if not row.get("reason")]
    told = f"{len(rows) - len(kept):,} of {len(rows):,}, with the reason of each in comparison.json"
    return {**agreement, "rows": kept, "rows_that_are_not_estimable": told}


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


def limit_sentences(told: Mapping[str, Any]) -> list[str]:
    """Returns what the study does not say, and what it could not check."""
    sentences = [
        "A distance between sets of features says how alike two sets of images are to one judge. It does not say that an "
        "image is right for its report, nor that it is of any use in a clinic.",
        "The intervals are over training seeds of the language model: image tokenizer, teacher, permutation and untrained "
        "teacher are one draw each, and a result about a teacher is about no other teacher.",
    ]
    infinity = told["primary"]["frechet_infinity"]
    means = {
        arm: sum(values) / len(values)
        for arm, values in infinity["per_arm"].items()
        if values and all(value is not None for value in values)
    }
    if means:
        shown = ", ".join(f"{arm} {mean:.4g}" for arm, mean in means.items())
        floor = infinity["reconstruction_floor"]
        above = "" if floor is None else f"; reconstructed images {floor:.4g}"
        sentences.append(f"Primary distance {infinity['note']}: {shown} (means over seeds){above}.")
    if not told["notes"]:
        return [*sentences, "Nothing was left unchecked."]
    return [*sentences, "What could not be checked:", *(f"– {note}." for note in told["notes"])]


def _checklist(section: Section, told: Mapping[str, Any]) -> None:
    rows = [(f"{item.number}. {item.item}", item.answer) for item in claim_checklist(told)]
    section.table(("item, in our own words", "answer"), rows, CITATION)
