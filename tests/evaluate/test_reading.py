"""A blinded set gives nothing away; answers are checked; rates, intervals and kappas are those of other programs."""

import csv
import dataclasses
import json
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from arra_med.cli import main
from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError, StudySetError
from arra_med.evaluate.intervals import t_interval
from arra_med.evaluate.proportions import share_interval
from arra_med.evaluate.reading_answers import Answer, read_answers
from arra_med.evaluate.reading_results import reading_results
from arra_med.evaluate.reading_set import (
    ReadingArm,
    ReadingKey,
    arm_of_folder,
    arm_of_studies,
    export_reading_set,
    read_key,
)
from arra_med.reporting.reading_page import ANSWER_COLUMNS
from tests.corpus.tiny_studies import write_study_set

NAMES = ("real", "reconstructed", "baseline", "arra")
REPORT = "chest X-ray image, Pleural effusion."


def arm(name: str, num: int = 12, report: str = REPORT, side: int = 16, **changes: Any) -> ReadingArm:
    seed = sum(map(ord, name))
    views = list(np.random.default_rng(seed).integers(0, 256, (num, 1, side, side), dtype=np.uint8))
    settings = {"views": views, "reports": [report] * num, "origins": [f"SECRET{i}" for i in range(num)], **changes}
    return ReadingArm(name, **settings)


def arms(**settings: Any) -> list[ReadingArm]:
    return [arm(name, **settings) for name in NAMES]


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, ReadingKey]:
    key = export_reading_set(arms(), tmp_path / "set", tmp_path / "key.json", per_arm=10, seed=3)
    return tmp_path, key


def png_chunks(data: bytes) -> list[bytes]:
    names, place = [], 8
    while place < len(data):
        names.append(data[place + 4 : place + 8])
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return names


def test_the_set_is_balanced_and_the_key_finds_every_image(exported: tuple[Path, ReadingKey]) -> None:
    folder, key = exported
    assert read_key(folder / "key.json") == key
    of_arm = [image.arm for image in key.images]
    assert {name: of_arm.count(name) for name in NAMES} == dict.fromkeys(NAMES, 10)
    assert of_arm != sorted(of_arm, key=NAMES.index)
    assert key.arms == {"real": "real", "reconstructed": "reconstructed", "baseline": "synthetic", "arra": "synthetic"}
    by_name = {its.name: its for its in arms()}
    for image in key.images:
        pixels = np.asarray(Image.open(folder / "set" / "images" / f"{image.image}.png"))
        np.testing.assert_array_equal(pixels, by_name[image.arm].views[int(image.origin.removeprefix("SECRET"))][0])


def test_nothing_in_the_folder_tells_the_arms_apart(exported: tuple[Path, ReadingKey]) -> None:
    folder, key = exported
    assert stat.S_IMODE((folder / "key.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "set").stat().st_mode) == 0o700
    files = sorted(
        path.relative_to(folder / "set").as_posix() for path in (folder / "set").rglob("*") if path.is_file()
    )
    assert files == sorted(
        ["README.txt", "images.csv", "reading.html", *(f"images/{image.image}.png" for image in key.images)]
    )
    page = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", (folder / "set" / "reading.html").read_text())
    table = (folder / "set" / "images.csv").read_text()
    for told in (page, table):
        assert not re.search(r"reconstruct|baseline|arra\b(?!-med)|SECRET", told.replace("ARRA-Med", ""))
    for image in key.images:
        data = (folder / "set" / "images" / f"{image.image}.png").read_bytes()
        assert set(png_chunks(data)) == {b"IHDR", b"IDAT", b"IEND"}
        assert re.fullmatch(r"img-[0-9a-f]{10}", image.image)
    real, reconstructed, baseline, arra = arms()
    swapped = [dataclasses.replace(baseline, name="arra"), dataclasses.replace(arra, name="baseline")]
    export_reading_set([real, reconstructed, *swapped], folder / "swapped", folder / "other.json", per_arm=10, seed=3)
    for name in files:
        assert (folder / "swapped" / name).read_bytes() == (folder / "set" / name).read_bytes()
    readme = (folder / "set" / "README.txt").read_text()
    assert "mixes synthetic images" in readme
    assert "research use only" in readme
    assert "SENSITIVE" in readme
    assert [row["report"] for row in csv.DictReader(table.splitlines())] == [REPORT] * 40


def test_equal_seeds_give_equal_sets_and_other_seeds_other_orders(tmp_path: Path) -> None:
    keys = [
        export_reading_set(arms(), tmp_path / f"set{number}", tmp_path / f"key{number}.json", seed=seed)
        for number, seed in enumerate((1, 1, 2))
    ]
    assert keys[0].images == keys[1].images
    assert (tmp_path / "set0/reading.html").read_bytes() == (tmp_path / "set1/reading.html").read_bytes()
    assert keys[0].set_id != keys[2].set_id


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ([arm("real")], {}, "1 arms with 1 names were given; at least two"),
        ([arm("real"), arm("real")], {}, "2 arms with 1 names"),
        ([arm("real"), arm("arra", side=24)], {}, "or they tell the arms apart; found real 1x16x16, arra 1x24x24"),
        (arms(), {"per_arm": 13}, "13 images of each arm are wanted and the arms hold real 12, .*: lower --per-arm"),
        ([arm("real"), arm("arra", report="")], {}, r"some images have no report \(12 of arra\), which tells the arms"),
        ([arm("real"), arm("arra", views=arm("real").views)], {}, r"12 images occur more than once \(in arra, real\)"),
    ],
)
def test_sets_that_would_break_the_blinding_are_refused(
    tmp_path: Path, given: list[ReadingArm], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        export_reading_set(given, tmp_path / "set", tmp_path / "key.json", **settings)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_and_the_key_stays_outside(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="lies in the readers' folder, where it would break the blinding"):
        export_reading_set(arms(), tmp_path / "set", tmp_path / "set" / "key.json")
    (tmp_path / "set").mkdir()
    with pytest.raises(EvaluationError, match="set: is there already and may be in use; choose another --out"):
        export_reading_set(arms(), tmp_path / "set", tmp_path / "key.json")
    (tmp_path / "key.json").touch()
    with pytest.raises(EvaluationError, match="choose another --key"):
        export_reading_set(arms(), tmp_path / "other", tmp_path / "key.json")
    with pytest.raises(EvaluationError, match="is damaged or no key of a reading set"):
        read_key(tmp_path / "key.json")
    with pytest.raises(EvaluationError, match="is not there; give the key"):
        read_key(tmp_path / "nowhere.json")
    (tmp_path / "key.json").write_text('{"format_version": 9}')
    with pytest.raises(EvaluationError, match="has format version 9, this program reads 1"):
        read_key(tmp_path / "key.json")


def test_without_reports_none_are_shown(tmp_path: Path) -> None:
    mixed = [arm("real"), arm("arra", report="")]
    key = export_reading_set(mixed, tmp_path / "set", tmp_path / "key.json", with_reports=False)
    assert not any(image.has_report for image in key.images)
    assert REPORT not in (tmp_path / "set" / "reading.html").read_text()


def test_arms_come_from_study_sets_and_folders(tmp_path: Path) -> None:
    write_study_set(tmp_path / "studies")
    real = arm_of_studies(StudySet.open(tmp_path / "studies"), "train", "kermany_pneumonia")
    assert (real.role, len(real.views), real.origins[0]) == ("real", 4, "kermany_pneumonia/img0")
    with pytest.raises(StudySetError, match="choose another split or source"):
        arm_of_studies(StudySet.open(tmp_path / "studies"), "train", "nih_cxr14")
    (tmp_path / "drawn").mkdir()
    for number, view in enumerate(arm("arra").views):
        Image.fromarray(view[0]).save(tmp_path / "drawn" / f"{number:02}.png")
        (tmp_path / "drawn" / f"{number:02}.txt").write_text("Mr. Zzyzx: pleural effusion." if number else "")
    drawn = arm_of_folder("arra", tmp_path / "drawn", "cxr")
    np.testing.assert_array_equal(drawn.views, arm("arra").views)
    assert drawn.reports[0] == ""
    assert "leural effusion" in drawn.reports[1]
    assert "Zzyzx" not in drawn.reports[1]
    assert drawn.origins[0] == "number 1"


def test_a_share_of_single_answers_is_wilsons_and_a_second_reader_counts_for_less_than_new_images() -> None:
    for yes, num in ((0, 9), (4, 11), (25, 25)):
        found = share_interval([1] * yes + [0] * (num - yes), [1] * num)
        expected = stats.binomtest(yes, num).proportion_ci(method="wilson")
        assert (found.estimate, found.low, found.high) == pytest.approx((yes / num, expected.low, expected.high))
        assert found.method == "Wilson"
    once = share_interval([1] * 6 + [0] * 14, [1] * 20)
    same = share_interval([2] * 6 + [0] * 14, [2] * 20)  # the second reader says what the first one said
    assert (same.low, same.high) == pytest.approx((once.low, once.high))
    rng = np.random.default_rng(0)
    independent = share_interval(rng.binomial(2, 0.3, 400), [2] * 400)
    expected = stats.binomtest(round(independent.estimate * 800), 800).proportion_ci(method="wilson")
    assert (independent.low, independent.high) == pytest.approx((expected.low, expected.high), abs=4e-3)
    with pytest.raises(EvaluationError, match="a share of no answers is not defined"):
        share_interval([0], [0])
    with pytest.raises(EvaluationError, match="count them again"):
        share_interval([2], [1])


def write_answers(path: Path, key: ReadingKey, reader: str = "R1", **changes: Sequence[str] | str) -> Path:
    """Every image called synthetic, of quality 3, showing its finding; `changes` replace a column."""
    columns: dict[str, Any] = {
        "set_id": key.set_id,
        "reader": reader,
        "image": [image.image for image in key.images],
        "real_or_synthetic": "synthetic",
        "quality": "3",
        "shows_finding": "yes",
        "comment": '=1+1, "quoted"',
        **changes,
    }
    num = len(columns["image"])
    lists = [[value] * num if isinstance(value, str) else list(value) for value in columns.values()]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*lists, strict=True))
    return path


def test_rates_are_counted_by_arm_reader_and_all_together(exported: tuple[Path, ReadingKey]) -> None:
    folder, key = exported
    place = {name: iter(range(10)) for name in NAMES}
    number = [next(place[image.arm]) for image in key.images]  # 0 to 9 within each arm

    def called(threshold: dict[str, int]) -> list[str]:
        return ["synthetic" if n < threshold[i.arm] else "real" for n, i in zip(number, key.images, strict=True)]

    first = {"real": 2, "reconstructed": 5, "baseline": 9, "arra": 6}
    second = {"real": 4, "reconstructed": 5, "baseline": 7, "arra": 2}
    quality = [str(1 + n % 5) for n in number]
    shows = ["yes" if n < 8 else "unsure" for n in number]
    files = [
        write_answers(
            folder / "1.csv", key, "R1", real_or_synthetic=called(first), quality=quality, shows_finding=shows
        ),
        write_answers(folder / "2.csv", key, "R2", real_or_synthetic=called(second), quality="4", shows_finding="no"),
    ]
    results = reading_results(key, read_answers(files, key))
    one, two = results.readers
    assert [row.called_synthetic.estimate for row in one.arms if row.called_synthetic] == [0.2, 0.5, 0.9, 0.6]
    assert one.sensitivity is not None
    assert one.specificity is not None
    assert one.sensitivity.estimate == pytest.approx(15 / 20)
    assert one.specificity.estimate == pytest.approx(8 / 10)
    wilson = stats.binomtest(15, 20).proportion_ci(method="wilson")
    assert (one.sensitivity.low, one.sensitivity.high) == pytest.approx((wilson.low, wilson.high))
    assert two.specificity is not None
    assert two.specificity.estimate == pytest.approx(6 / 10)
    pooled = {row.arm: row for row in results.pooled.arms}
    assert pooled["baseline"].called_synthetic is not None
    assert pooled["baseline"].called_synthetic.estimate == pytest.approx(16 / 20)
    assert pooled["real"].shows_finding is not None
    assert pooled["real"].shows_finding.estimate == pytest.approx(8 / 20)
    expected = t_interval([(1 + n % 5 + 4) / 2 for n in range(10)])
    assert pooled["arra"].quality is not None
    assert (pooled["arra"].quality.low, pooled["arra"].quality.high) == pytest.approx((expected.low, expected.high))
    (agreement,) = results.agreement
    assert agreement.real_or_synthetic == pytest.approx(cohen_kappa_score(called(first), called(second)))
    assert agreement.quality == pytest.approx(0.0)  # one reader gave one mark to all
    assert results.num_missing == 0


def answers(values: Sequence[tuple[bool, int]]) -> dict[str, Answer]:
    return {f"i{n}": Answer(synthetic, quality, None, "") for n, (synthetic, quality) in enumerate(values)}


def test_kappa_of_three_readers_is_the_mean_of_their_pairs_and_marks_keep_their_distances() -> None:
    images = [
        {"image": f"i{n}", "arm": ("real", "arra")[n % 2], "origin": "", "pixels_sha256": "", "has_report": False}
        for n in range(6)
    ]
    roles = {"real": "real", "arra": "synthetic"}
    key = ReadingKey.model_validate({"set_id": "s", "seed": 0, "arms": roles, "images": images, "versions": {}})
    kinds = ([1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 1, 0])
    marks = ([1, 2, 5, 5, 2, 1], [1, 5, 5, 2, 2, 1], [2, 2, 5, 5, 1, 1])
    readers = [answers([(bool(k), m) for k, m in zip(*one, strict=True)]) for one in zip(kinds, marks, strict=True)]
    results = reading_results(key, readers)
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert [row.readers for row in results.agreement] == [
        *("readers 1 and 2", "readers 1 and 3", "readers 2 and 3", "mean of all pairs")
    ]
    expected = [cohen_kappa_score(kinds[a], kinds[b]) for a, b in pairs]
    assert results.agreement[-1].real_or_synthetic == pytest.approx(np.mean(expected))

    def weighted(first: list[int], second: list[int]) -> float:
        one, two = np.array(first), np.array(second)
        return float(1 - ((one - two) ** 2).mean() / ((one[:, None] - two[None]) ** 2).mean())

    assert results.agreement[0].quality == pytest.approx(weighted(marks[0], marks[1]))
    assert results.agreement[-1].shows_finding is None
    assert results.pooled.arms[0].shows_finding is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set_id": "0" * 16}, "answers another reading set than the key's; give the key of that set"),
        ({"image": [f"img-{n}" for n in range(40)]}, "40 images are not in the key"),
        ({"reader": ""}, "one reader's name in all rows is required, found 0"),
        ({"reader": ["A", "B"] * 20}, "one reader's name in all rows is required, found 2"),
        ({"real_or_synthetic": "perhaps"}, "row 2 has another real_or_synthetic than real, synthetic or none"),
        ({"quality": "6"}, "row 2 has another quality than 1, 2, 3, 4, 5 or none"),
        ({"quality": ["3"] * 37 + [""] * 3}, "3 of 40 images have no complete answer; let the reader finish them"),
        ({"shows_finding": ["yes"] * 39 + [""]}, "1 of 40 images have no complete answer"),
        ({"real_or_synthetic": ""}, "40 of 40 images have no complete answer"),
    ],
)
def test_answers_that_do_not_fit_are_refused(
    exported: tuple[Path, ReadingKey], changes: dict[str, Any], message: str
) -> None:
    folder, key = exported
    path = write_answers(folder / "answers.csv", key, **changes)
    with pytest.raises(EvaluationError, match=f"answers.csv: {message}"):
        read_answers([path], key)


def test_files_that_are_no_answers_or_of_one_reader_twice_are_refused(exported: tuple[Path, ReadingKey]) -> None:
    folder, key = exported
    first, again = write_answers(folder / "1.csv", key), write_answers(folder / "2.csv", key, reader=" r1 ")
    with pytest.raises(EvaluationError, match=r"2.csv: is of the same reader as .*1.csv"):
        read_answers([first, again], key)
    with pytest.raises(EvaluationError, match="no file of answers was given"):
        read_answers([], key)
    with pytest.raises(EvaluationError, match="is not there; give the CSV file that a reader saved"):
        read_answers([folder / "nowhere.csv"], key)
    names = [image.image for image in key.images]
    twice = write_answers(folder / "3.csv", key, image=[*names[:39], names[0]])
    with pytest.raises(EvaluationError, match="1 images are answered more than once"):
        read_answers([twice], key)
    (folder / "4.csv").write_text("image;quality\nimg;3\n")
    with pytest.raises(EvaluationError, match="the columns set_id, reader, image, .* are required in every row"):
        read_answers([folder / "4.csv"], key)
    (folder / "5.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EvaluationError, match="cannot be read as CSV in UTF-8"):
        read_answers([folder / "5.csv"], key)


def test_missing_answers_can_be_allowed_and_are_counted(exported: tuple[Path, ReadingKey]) -> None:
    folder, key = exported
    path = write_answers(folder / "1.csv", key, real_or_synthetic=["real"] * 38 + [""] * 2)
    results = reading_results(key, read_answers([path], key, allow_missing=True))
    assert results.num_missing == 2
    assert sum(row.num_images for row in results.pooled.arms) == 38


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["reading", *words])
    return int(ended.value.code or 0)


def test_commands_export_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("real", "arra"):
        (tmp_path / name).mkdir()
        for number, view in enumerate(arm(name, 3).views):
            Image.fromarray(view[0]).save(tmp_path / name / f"{number}.png")
    places = ["--out", str(tmp_path / "set"), "--key", str(tmp_path / "key.json")]
    folders = [word for name in ("real", "arra") for word in ("--arm", f"{name}={tmp_path / name}")]
    assert command("export", *folders, "--no-reports", *places) == 0
    assert "SENSITIVE: the folder holds patients' images" in capsys.readouterr().err
    key = read_key(tmp_path / "key.json")
    files = [write_answers(tmp_path / f"{n}.csv", key, f"R{n}", shows_finding="") for n in range(2)]
    out = tmp_path / "results.json"
    assert command("import", *map(str, files), "--key", str(tmp_path / "key.json"), "--out", str(out)) == 0
    written = json.loads(out.read_text())
    assert written["pooled"]["sensitivity"]["estimate"] == 1.0
    assert "all: sensitivity for synthetic images 1.00" in capsys.readouterr().out
    assert "quoted" not in out.read_text()  # comments may name a person
    assert command("export", "--arm", "arra", *places) == 2
    assert "an --arm is written NAME=FOLDER" in capsys.readouterr().err


@pytest.mark.browser
def test_a_reader_answers_in_a_browser_from_a_file_and_saves(
    exported: tuple[Path, ReadingKey], browser_path: str
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
    folder, key = exported
    complaints: list[str] = []
    requests: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(offline=True).new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((folder / "set" / "reading.html").as_uri())
        page.click("#download")
        sync_api.expect(page.locator("#message")).to_contain_text("enter your reader name")
        page.fill("#reader", 'R"1')
        for number in range(len(key.images)):
            sync_api.expect(page.locator("#place")).to_have_text(f"Image {number + 1} of 40")
            assert page.evaluate("document.getElementById('picture').naturalWidth") == 16
            page.locator("#place").click()
            for pressed in ("s" if number % 2 else "r", str(1 + number % 5), "ynu"[number % 3]):
                page.keyboard.press(pressed)
            if number == 4:
                page.fill("#comment", 'a "comment",\nof two lines')
            if number == 20:
                page.reload()  # answers and place are kept
                sync_api.expect(page.locator("#answered")).to_have_text("21 of 40 answered")
            if number < 39:
                page.click("#next")
        sync_api.expect(page.locator("#answered")).to_have_text("40 of 40 answered")
        sync_api.expect(page.locator("#report")).to_have_text(REPORT)
        with page.expect_download() as download:
            page.click("#download")
        download.value.save_as(folder / "answers.csv")
        page.once("dialog", lambda dialog: dialog.accept())
        page.click("#clear")
        page.reload()  # nothing of the last reader is left
        sync_api.expect(page.locator("#answered")).to_have_text("0 of 40 answered")
        sync_api.expect(page.locator("#reader")).to_have_value("")
        browser.close()
    assert complaints == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "data", "blob"}
    with (folder / "answers.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == ANSWER_COLUMNS
    assert [row["image"] for row in rows] == [image.image for image in key.images]
    (found,) = read_answers([folder / "answers.csv"], key)
    for number, image in enumerate(key.images):
        answer = found[image.image]
        shown = ("yes", "no", "unsure")[number % 3]
        assert (answer.synthetic, answer.quality, answer.shows_finding) == (number % 2 == 1, 1 + number % 5, shown)
    assert found[key.images[4].image].comment == 'a "comment",\nof two lines'
