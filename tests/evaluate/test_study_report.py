"""A study's report: every number is the file's, what could be found comes first, and nothing is shown that may not be."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from scipy import stats

from arra_med.evaluate import study_report
from arra_med.evaluate.study_answer import answer_sentences
from arra_med.evaluate.study_checklist import NOT_ANSWERED, claim_checklist
from arra_med.evaluate.study_further_tables import further_tables
from arra_med.evaluate.study_page import write_page
from arra_med.evaluate.study_plots import write_plots
from arra_med.evaluate.study_report import report_tables, write_report
from arra_med.evaluate.study_samples import Sample, chosen_rows, may_show_prompt, sample_of
from arra_med.evaluate.study_tables import numbers
from arra_med.records.study import StudyRecord
from tests.evaluate.told import PER_SEED, invented

PROMPT = "Chest radiograph with a prompt's own words."


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second; what a page says does not depend on it."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>'
    monkeypatch.setattr(study_report, "write_plots", lambda *_: {"seeds": svg, "reductions": svg})


class Words(HTMLParser):
    """The words of a page, and the cells of its tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._in_cell = tag in ("td", "th")
        if self._in_cell:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.cells[-1] += data


def record(**changes: Any) -> StudyRecord:
    values: dict[str, Any] = {
        "image_id": "nih_cxr14/1",
        "patient_id": "hash",
        "modality": "cxr",
        "source": "nih_cxr14",
        "labels": ("Effusion", "Cardiomegaly"),
        "report": PROMPT,
        "report_kind": "from_labels",
        "redistributable": True,
        "attribution": "Given by a hospital",
    }
    return StudyRecord(**{**values, **changes})


def sample(**changes: Any) -> Sample:
    views = {name: np.full((1, 80, 80), level, np.uint8) for name, level in (("plain", 90), ("arra", 120))}
    real, again = np.zeros((1, 80, 80), np.uint8), np.full((1, 80, 80), 30, np.uint8)
    return sample_of(
        record(**changes), PROMPT, real=real, reconstructed=again, drawn=views, image_seed=17, training_seed=0
    )


def told_excess(values: list[float], floor: float) -> tuple[float, float]:
    bounds = stats.ttest_1samp(np.array(values) - floor, 0).confidence_interval(0.95)
    return bounds.low, bounds.high


def written(out: Path, **changes: Any) -> Words:
    return Words(write_report(out, invented(**changes), [sample()]).read_text(encoding="utf-8"))


@pytest.mark.usefixtures("without_plots")
def test_what_could_be_found_is_said_before_what_was_found(tmp_path: Path) -> None:
    told = invented()
    could, verdict = answer_sentences(told)
    effect = told["primary"]["effects"][0]["reduction"]
    assert f"a reduction of {told['primary']['detectable']['reduction']:.1%} or more is found 80% of the time" in could
    assert verdict.startswith("arra helped. Against the baseline its distance to real images fell by 22.3% (95% ")
    bounds = f"a fall of {effect['low']:.1%} to a fall of {effect['high']:.1%}"
    assert f"5 training seeds: {bounds}). A fall is shown against permuted, too." in verdict
    text = written(tmp_path).text
    assert 0 < text.index("What this study could find") < text.index("arra helped") < text.rindex("Tejani")
    assert "two-sided paired t test over seeds, with a correlation of 0 between the arms of a seed" in text
    tables = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert tables.index("Asked: Does") < tables.index("What this study could find") < tables.index("arra helped")
    assert tables.index("arra helped") < tables.index("## Primary distance")


def test_each_tier_has_its_sentence() -> None:
    told = invented()
    for tier, words in {"hurts": "made the images worse", "not shown to help": "was not shown to help"}.items():
        told["primary"]["verdicts"][0]["tier"] = tier
        assert words in answer_sentences(told)[1]
    uncontrolled = {"plain": "baseline", "arra": "treatment"}
    primary = {**told["primary"], "effects": told["primary"]["effects"][:1], "roles": uncontrolled}
    without = {**told, "primary": primary}
    assert answer_sentences(without)[1].endswith(
        "The study has no control: any other auxiliary loss might have done the same."
    )
    unmatched = {**told, "primary": {**told["primary"], "controls": {"arra": []}}}
    unmatched["primary"]["verdicts"][0]["tier"] = "no matched control"
    assert "has no control with its own teacher, so nothing is concluded of it" in answer_sentences(unmatched)[1]
    told["primary"]["effects"][0]["hierarchical"].update(low=-0.02, high=0.4)
    assert answer_sentences(told)[1].endswith(
        "With the test patients as a sample, too, the interval is a rise of 2.0% to a fall of 40.0%: less sure."
    )
    told["primary"]["effects"][0]["hierarchical"] = None
    told["primary"]["effects"][0]["reduction"]["low"] = -0.01
    assert answer_sentences(told)[1].endswith("No fall is shown against plain.")
    told["primary"]["verdicts"] = []
    assert "no treatment" in answer_sentences(told)[1]


@pytest.mark.usefixtures("without_plots")
def test_the_page_shows_the_file_s_numbers(tmp_path: Path) -> None:
    page = written(tmp_path)
    for arm, values in PER_SEED.items():
        assert all(f"{value:.3f}" in page.cells for value in values), arm
    for shown in ("0.810", "0.062", "0.870", "12,345,678", "efficientnet_lite0"):
        assert any(shown in cell or shown in page.text for cell in page.cells), shown
    assert "ab" * 32 in page.text
    assert "Does <b>alignment</b> help?" in page.text  # markup stays text
    assert "Secondary distances by inception" in page.text
    excess = told_excess(PER_SEED["arra"], 0.81)
    assert f"{excess[0]:.3f} to {excess[1]:.3f}" in page.cells  # of what lies above the tokenizer's floor
    assert "Research use only" in page.text
    assert "what images efficientnet_lite2 learned from is not recorded." in page.text
    assert "not measured: plain 1 (means over seeds)" in page.text


@pytest.mark.usefixtures("without_plots")
def test_the_tables_are_markdown_of_the_same_numbers(tmp_path: Path) -> None:
    write_report(tmp_path, invented())
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    grids = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(grids) == 10
    for grid in grids:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in grid}) == 1
    assert "| 2 | 3.220 | 2.520 | 3.250 |" in grids[0]
    assert "ynthetic" in text.splitlines()[2]


@pytest.mark.usefixtures("without_plots")
def test_an_exploratory_study_says_so_first(tmp_path: Path) -> None:
    text = written(tmp_path, exploratory=True).text
    assert "Study invented, exploratory" in text
    assert text.index("Exploratory: settings were tried out, or chosen after") < text.index(
        "What this study could find"
    )
    assert "xploratory" not in written(tmp_path / "registered").text.replace("exploratory arms", "")


@pytest.mark.usefixtures("without_plots")
def test_a_study_judged_on_validation_images_never_calls_them_test_images(tmp_path: Path) -> None:
    told = invented(exploratory=True)
    told["primary"]["split"] = "validation"
    told["primary"]["effects"][0]["hierarchical"].update(low=-0.02, high=0.4)
    text = Words(write_report(tmp_path, told).read_text(encoding="utf-8")).text
    for page in (text, (tmp_path / "tables.md").read_text(encoding="utf-8")):
        assert "400 real validation images" in page
        assert "against real validation images" in page
        assert "With the validation patients as a sample, too" in page
        assert not re.search(r"test (images|patient)", page.partition("Tejani AS")[0])
    assert "Test images: split validation" in text


@pytest.mark.usefixtures("without_plots")
def test_further_parts_come_only_where_they_are(tmp_path: Path) -> None:
    assert "Agreement with the report" not in written(tmp_path / "without").text
    auroc = {"estimate": 0.713, "low": 0.6, "high": 0.8, "confidence": 0.95, "num_units": 9, "method": "DeLong"}
    found = [
        {"finding": "effusion", "num_positives": 1200, "per_seed": [0.7, 0.72], "auroc": auroc, "reason": None},
        {"finding": "nodule", "num_positives": 3, "per_seed": [], "auroc": None, "reason": "too few"},
    ]
    read = [{**found[0], "arm": arm, "finding": finding} for arm in ("plain", "arra") for finding in ("mass", "edema")]
    (table,) = [one for one in report_tables(invented(agreement={"rows": read})) if one.title.endswith(": AUROC")]
    order = [("plain", "mass"), ("arra", "mass"), ("plain", "edema"), ("arra", "edema")]
    assert [(arm.text, finding.text) for arm, finding in table.rows] == order
    agreement = {"judge": "j", "rows": found}
    page = written(
        tmp_path, agreement=agreement, utility={"per_arm": {"plain": {"auroc": 0.7}}, "images": 12}, privacy={}
    )
    assert {"finding", "positives", "auroc", "1,200", "0.713 [0.6, 0.8]"} <= set(page.cells)
    assert not {"too few", "per seed"} & set(page.cells)
    assert "1 of 2, with the reason of each in comparison.json" in page.cells
    assert "Utility for training: per arm" in page.text
    assert "Privacy" not in page.text
    assert "Images of other sites" not in page.text
    interval = {"estimate": -0.31, "low": -0.4, "high": -0.2, "confidence": 0.95}
    sites = {"num_sites": 2, "num_images": 900, "floors": None, "excess": {}, "differences": {"arra": interval}}
    page = written(tmp_path / "sites", sites=sites)
    assert {"900", "-0.31 [-0.4, -0.2]"} <= set(page.cells)


@pytest.mark.usefixtures("without_plots")
def test_privacy_is_told_in_rows_that_can_be_read(tmp_path: Path) -> None:
    def interval(value: float) -> dict[str, float]:
        return {"estimate": value, "low": value - 0.01, "high": value + 0.01, "confidence": 0.95}

    rate = {"count": 2, "total": 800, "rate": 0.0025, "interval": [0.0003, 0.009]}
    distances = {"efficientnet_lite0": {"quantiles": [0.01, 0.05], "drawn_below_lowest": 0.013}}
    threshold = {"similarity": 0.8821, "false_alarm_rate": 0.01, "confidence": 0.95, "num_images": 476, "num_above": 1}
    arms = [{"arm": arm, "copies": rate, "by_seed": {"0": rate}, "distances": distances} for arm in ("plain", "arra")]
    attack = {"auroc": interval(0.53), "true_positive_rate": interval(0.02), "num_members": 450, "num_others": 1017}
    minus = {"auroc": interval(0.0012), "true_positive_rate": interval(-0.0034)}
    seeds = [
        {
            "seed": seed,
            "source": "nih_cxr14",
            "arms": {"plain": {"likelihood": attack}, "arra": {"likelihood": attack}},
            "minus_baseline": {"arra": {"likelihood": minus}},
            "without_a_model": interval(0.494),
        }
        for seed in (0, 1)
    ]
    copies = {"threshold": threshold, "false_alarms": {**rate, "count": 0}, "arms": arms}
    membership = {"per_seed": seeds, "over_seeds": {"arra": {"likelihood": minus}}}
    page = written(tmp_path, privacy={"copies": copies, "membership": membership})
    assert {"2 of 800 (0.0% to 0.9%)", "1.30%", "near, by efficientnet lite0"} <= set(page.cells)
    assert page.cells.count("0.530 [0.520, 0.540]") == 4  # two arms, two seeds
    assert page.cells.count("0.0012 [-0.0088, 0.0112]") == 3  # two seeds of one arm, and over seeds
    assert "450 training images of nih_cxr14 from 1,017 held-out ones" in page.text
    assert max(map(len, page.cells)) < 400
    page = written(tmp_path, privacy={"copies": {"reason": "needs 299 images"}, "membership": {"reason": "too few"}})
    assert {"not measured: needs 299 images", "not measured: too few"} <= set(page.cells)


def test_unknown_parts_become_tables_whatever_their_form() -> None:
    assert further_tables("t", []) == []
    (table,) = further_tables("t", [{"a": 1, "num_b": 0.25}, {"c": [True, None]}])
    assert table.columns == ("a", "b", "c")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["1", "0.25", "–"],
        ["–", "–", "yes, –"],
    ]
    assert table.rows[1][0].is_number
    titles = [one.title for one in further_tables("t", {"x": 1, "lists": [{"a": 1}], "arms": {"plain": {"a": 1}}})]
    assert titles == ["t", "t: lists", "t: arms"]


def test_what_nests_deeper_has_a_table_that_says_whose_it_is() -> None:
    interval = {"estimate": 0.7, "low": 0.6, "high": 0.8, "confidence": 0.95}
    utility = {
        "plain": {
            "judge": "j",
            "real": interval,
            "per_seed": [{"seed": 0, "both": interval}, {"seed": 1, "both": None}],
        },
        "arra": {"judge": "j", "real": None, "per_seed": [], "reason": "too few"},
    }
    outer, inner = further_tables("t", utility)
    assert (outer.title, outer.columns, outer.note) == ("t", ("name", "real", "reason"), "In all rows: judge j.")
    assert [cell.text for cell in outer.rows[0]] == ["plain", "0.7 [0.6, 0.8]", "–"]
    assert (inner.title, inner.columns) == ("t: per seed", ("name", "seed", "both"))
    assert [[cell.text for cell in row] for row in inner.rows] == [
        ["plain", "0", "0.7 [0.6, 0.8]"],
        ["plain", "1", "–"],
    ]
    rate = {"count": 1, "total": 96, "rate": 0.0104, "interval": [0.0, 0.05]}
    copies = {"false_alarms": rate, "arms": [{"arm": "plain", "copies": rate, "by_seed": {"0": rate}}]}
    alarms, arms = further_tables("t", copies)
    assert [cell.text for cell in alarms.rows[1]] == ["total", "96"]
    assert arms.rows[0][2].text == "0 1 of 96 (0.0% to 5.0%)"
    assert further_tables("t", {"a": {}, "b": {"x": {"y": {"z": {"v": 1.5}}}}})[-1].rows[0][1].text == "v 1.5"


@pytest.mark.usefixtures("without_plots")
def test_one_seed_has_no_interval_and_no_verdict(tmp_path: Path) -> None:
    told = invented(exploratory=True)
    told["primary"] |= {"effects": [], "verdicts": [], "detectable": None}
    told["primary"]["per_seed"] = told["primary"]["per_seed"][:1]
    for row in (*told["secondary"], told["held_out_loss"]):
        row["differences"] = {}
    page = Words(write_report(tmp_path, told).read_text(encoding="utf-8"))
    assert "one seed cannot tell how much: there is no interval and no verdict" in page.text
    assert "one seed has no power" in page.text
    assert "reduction" not in page.cells
    assert list(write_plots(tmp_path / "drawn", told)) == ["seeds"]


def test_numbers_line_up_and_no_zero_is_negative() -> None:
    assert [cell.text for cell in numbers([31.894, 2.246, None])] == ["31.89", "2.25", "–"]
    assert [cell.text for cell in numbers([0.00074138, -1e-9])] == ["0.0007414", "0.0000000"]
    assert [cell.text for cell in numbers([12345.6, 0.0])] == ["12,346", "0"]
    assert numbers([0.0])[0].text == "0.000"


@pytest.mark.usefixtures("without_plots")
def test_a_real_image_is_shown_only_where_it_may_be_passed_on(tmp_path: Path) -> None:
    assert [picture.kind for picture in sample().pictures] == ["real", "reconstructed", "synthetic", "synthetic"]
    closed = sample(redistributable=False)
    assert [(picture.kind, picture.name) for picture in closed.pictures] == [
        ("synthetic", "plain"),
        ("synthetic", "arra"),
    ]
    html = write_report(tmp_path, invented(), [closed]).read_text(encoding="utf-8")
    assert "Given by a hospital" not in html
    assert html.count("data:image/jpeg") == 2
    page = written(tmp_path)
    assert "real (Given by a hospital)" in page.text
    assert "synthetic: arra, seed 17" in page.text


@pytest.mark.usefixtures("without_plots")
@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"report_kind": "keywords"}, True),
        ({"report_kind": "written"}, False),
        ({"report_kind": None}, False),
        ({"redistributable": False}, False),
    ],
)
def test_a_clinician_s_words_are_never_shown(changes: dict[str, Any], shown: bool, tmp_path: Path) -> None:
    assert may_show_prompt(record(**changes)) == shown
    html = write_report(tmp_path, invented(), [sample(**changes)]).read_text(encoding="utf-8")
    assert ("own words." in Words(html).text) == shown
    assert ("effusion, cardiomegaly" in html) != shown


def test_samples_are_of_different_findings_and_do_not_depend_on_the_order() -> None:
    labels = [("Effusion",)] * 8 + [("No Finding",)] * 8 + [("Nodule",)]
    records = [record(image_id=f"nih_cxr14/{number}", labels=own) for number, own in enumerate(labels)]
    names = {records[row].image_id for row in chosen_rows(records, 4)}
    assert "nih_cxr14/16" in names
    assert len({records[row].labels for row in chosen_rows(records, 3)}) == 3
    assert names == {records[::-1][row].image_id for row in chosen_rows(records[::-1], 4)}


def test_all_items_of_the_checklist_are_answered_or_said_not_to_be() -> None:
    items = claim_checklist(invented())
    assert [item.number for item in items] == list(range(1, 45))
    answers = {item.number: item.answer for item in items}
    assert "400 test images of 211 patients" in answers[21]
    assert "12,345,678 parameters" in answers[22]
    assert answers[32].startswith("Tested on held-out patients")
    assert answers[33].startswith(NOT_ANSWERED)
    told = invented()
    told["settings"]["held_out"]["source"] = "openi"
    answers = {item.number: item.answer for item in claim_checklist(told)}
    assert answers[32].startswith(NOT_ANSWERED)
    assert answers[33].startswith("Tested on a source that no arm trained on")
    assert {number for number, answer in answers.items() if answer.startswith(NOT_ANSWERED)} >= {13, 17, 34, 44}


def test_plots_are_the_same_bytes_each_time_and_curves_come_from_the_logs(tmp_path: Path) -> None:
    for name in ("first", "second"):
        for arm in PER_SEED:
            for seed in range(5):
                log = tmp_path / name / "arms" / arm / f"seed_{seed}" / "log.json"
                log.parent.mkdir(parents=True)
                lines = [{"loss": 3.0 / step, "image_token_loss": 3.0 / step, "step": step} for step in range(1, 9)]
                log.write_text(json.dumps([*lines, {"eval_image_token_loss": 0.5 + seed, "step": 8}]))
        write_plots(tmp_path / name, invented())
    first, second = (sorted((tmp_path / name / "plots").iterdir()) for name in ("first", "second"))
    assert [path.name for path in first] == [
        f"{name}.{kind}" for name in ("curves", "reductions", "seeds") for kind in ("png", "svg")
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"<dc:date>" not in first[1].read_bytes()
    assert list(write_plots(tmp_path / "no_logs", invented())) == ["seeds", "reductions"]
    assert not (tmp_path / "no_logs" / "plots" / "curves.svg").exists()


def test_a_page_for_a_repository_is_small_and_shows_no_closed_row(tmp_path: Path) -> None:
    told, study = invented(name="study of/a name"), tmp_path / "study"
    closed = sample(redistributable=False, labels=("Nodule",))
    write_report(study, told)
    page = write_page(tmp_path / "results", study, told, [closed, sample(), sample()])
    assert page == tmp_path / "results" / "study-of-a-name.md"
    text = page.read_text(encoding="utf-8")
    assert text.index("Research use only") < text.index("Asked:") < text.index("arra helped") < text.index("| 0 |")
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert shown == [f"study-of-a-name_{name}" for name in ("seeds.png", "reductions.png", "samples.jpg")]
    assert {path.name for path in page.parent.iterdir()} == {page.name, *shown}
    assert sum(path.stat().st_size for path in page.parent.iterdir()) < 600_000
    assert (PROMPT in text, "nodule" in text, "Given by a hospital" in text) == (True, False, True)
    with Image.open(page.parent / shown[-1]) as sheet:
        assert sheet.width > sheet.height  # four columns, and the rows of the two open studies
    assert "samples" not in write_page(tmp_path / "closed", study, told, [closed]).read_text(encoding="utf-8")
    assert not list((tmp_path / "closed").glob("*.jpg"))


@pytest.mark.browser
def test_the_page_fits_a_phone_and_asks_for_nothing(tmp_path: Path, browser_path: str) -> None:
    path = write_report(tmp_path, invented(), [sample()])
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        width = page.evaluate("document.documentElement.scrollWidth")
        shown = page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        browser.close()
    assert (width, shown) == (390, True)
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
