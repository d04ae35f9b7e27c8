import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from arra_med.corpus import study_tally
from arra_med.corpus.ingest_report import NUM_THUMBNAILS, _histogram, write_ingest_report
from arra_med.corpus.parquet import shard_path, write_table
from arra_med.corpus.study_rows import RECORD_FIELDS, STUDY_SCHEMA
from arra_med.corpus.study_set import finish_study_set, study_shard_path
from arra_med.corpus.study_tally import StudyTally
from arra_med.errors import StudySetError
from arra_med.runs import write_json
from tests.corpus.tiny_studies import SPEC, study_row, write_study_set


def page_of(folder: Path, **settings: Any) -> str:
    write_ingest_report(folder, folder / "report.html", **settings)
    return (folder / "report.html").read_text(encoding="utf-8")


def write_rows(folder: Path, rows: list[dict[str, Any]], metadata: dict[str, Any] | None = None, **told: Any) -> None:
    """Writes a study set of one shard with these rows."""
    folder.mkdir()
    path = study_shard_path(folder, "only")
    write_table(path, rows, STUDY_SCHEMA, {"fingerprint": "only", "format_version": 2, **(metadata or {})})
    finish_study_set(folder, ["only"], **{"spec": SPEC, "num_quarantined": 0, "skipped": {}, **told})


def row_of(number: int, **changes: Any) -> dict[str, Any]:
    return {**study_row(number % 6), "image_id": f"kermany_pneumonia/{number}", **changes}


def cells(page: str) -> list[list[str]]:
    """The words of every table row of a page."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row] for row in found]


def test_rows_patients_labels_flags_and_scores_are_counted(studies: Path) -> None:
    page = page_of(studies)
    rows = cells(page)
    assert ["train", "", "4", "66.7%"] in rows
    # Patients 0 and 1 have two training images each; 2 is in validation, 3 in test.
    for counts in (["train", "4", "2", "0"], ["validation", "1", "1", "0"], ["test", "1", "1", "0"]):
        assert counts in rows
    for counts in (["bacterial pneumonia", "3", "3"], ["normal", "3", "3"], ["overlay_ignored", "1", "16.7%"]):
        assert counts in rows
    # Scores 0, 0.5, ... 2.5: the 5% point lies a quarter of the way from the first to the second.
    assert ["sharpness", "6", "0", "0.125", "1.25", "2.38", "2.5"] in rows
    assert "<dd>6</dd><dt>studies</dt>" in page
    assert "<dd>4</dd><dt>known patients</dt>" in page
    assert "Contains patient images; licence class: open." in page


def test_images_without_a_known_patient_count_as_no_patient(tmp_path: Path) -> None:
    write_study_set(tmp_path / "studies", patient_known=False)
    page = page_of(tmp_path / "studies")
    assert "<dd>0</dd><dt>known patients</dt>" in page
    assert ["train", "4", "0", "4"] in cells(page)


def test_reasons_and_rules_are_told_with_their_commonest_words(tmp_path: Path) -> None:
    told = {"state_hash": "s", "file_hash": "f"}
    refused = [
        {"image_id": "kermany_pneumonia/x1", "reason": "truncated", "message": "ends early", **told},
        {"image_id": "kermany_pneumonia/x2", "reason": "truncated", "message": "ends <b>late</b>", **told},
        {"image_id": "kermany_pneumonia/x3", "reason": "truncated", "message": "ends <b>late</b>", **told},
        {"image_id": "kermany_pneumonia/x4", "reason": "empty", "message": "no content", **told},
    ]
    told = {"num_quarantined": 4, "skipped": {"over_limit": 2, "other_modality": 1200}}
    write_rows(tmp_path / "studies", [row_of(0)], {"refused": refused}, **told)
    page = page_of(tmp_path / "studies")
    rows = cells(page)
    start = rows.index(["truncated", "3", "ends <b>late</b>"])
    assert rows[start + 1] == ["empty", "1", "no content"]
    start = rows.index(["other_modality", "1,200"])
    assert rows[start + 1] == ["over_limit", "2"]
    assert "<b>" not in page


def test_duplicates_are_named_or_left_out_as_the_set_does(tmp_path: Path) -> None:
    rows = [row_of(number) for number in range(3)]
    same = {"kermany_pneumonia/2": "kermany_pneumonia/0"}
    write_rows(tmp_path / "kept", rows, duplicates=same, duplicate_distance=4)
    write_rows(
        tmp_path / "dropped", rows, duplicates=same, duplicate_distance=4, drop_duplicates=True, num_quarantined=1
    )
    kept, dropped = page_of(tmp_path / "kept"), page_of(tmp_path / "dropped")
    assert "Images of the set that show the same picture as an earlier one: 1." in kept
    assert [page.count("<img ") for page in (kept, dropped)] == [3, 2]
    assert ["duplicate", "1", "shows the same picture as an earlier image"] in cells(dropped)
    assert "<dd>2</dd><dt>studies</dt>" in dropped


def test_a_set_of_the_first_format_has_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    write_study_set(folder)
    info = finish_study_set(folder, ["first", "second"], spec=SPEC, num_quarantined=3, skipped={})
    schema = pa.schema([*RECORD_FIELDS, ("view_png", pa.binary()), ("view_sha256", pa.string())])
    rows = [{name: study_row(number)[name] for name in schema.names} for number in range(6)]
    write_table(shard_path(folder, 0), rows, schema, {"fingerprint": "old", "format_version": 1, "num_quarantined": 3})
    write_json(folder / "study_set.json", {**info.model_dump(mode="json"), "format_version": 1, "shards": ["old"]})
    rows_told = cells(page_of(folder))
    assert ["not recorded", "3", "see quarantine.jsonl; ingest again to have the reasons here"] in rows_told
    assert ["normal", "3", "3"] in rows_told


def test_markup_in_labels_stays_text_and_nobody_is_named(tmp_path: Path) -> None:
    planted = "<script>alert(1)</script>"
    write_rows(tmp_path / "studies", [row_of(0, labels=[planted], patient_hash="hash0", report="Jane has a cough")])
    page = page_of(tmp_path / "studies")
    assert "<script" not in page
    assert [planted, "1", "1"] in cells(page)
    words = re.sub(r'src="data:[^"]*"', "", page)
    for secret in ("hash0", "kermany_pneumonia/0", "Jane", str(tmp_path), "state0", "file0"):
        assert secret not in words


def test_the_sheet_shows_the_sources_in_turn_and_the_seed_chooses(tmp_path: Path) -> None:
    rows = [row_of(number, labels=[f"n{number}"]) for number in range(100)]
    rows += [row_of(number, source="nih_cxr14", labels=[f"n{number}"]) for number in (100, 101)]
    write_rows(tmp_path / "studies", rows)

    def captions(seed: int) -> list[str]:
        return re.findall(r'<img [^>]*alt="([^"]*)"', page_of(tmp_path / "studies", seed=seed))

    first = captions(0)
    assert len(first) == NUM_THUMBNAILS
    assert [caption.split(" · ")[0] for caption in first[:5]] == [
        *("kermany_pneumonia", "nih_cxr14") * 2,
        "kermany_pneumonia",
    ]
    assert len(set(first)) == NUM_THUMBNAILS
    assert captions(0) == first
    assert captions(1) != first


def test_a_set_without_labels_says_so(tmp_path: Path) -> None:
    write_study_set(tmp_path / "studies", labels=())
    page = page_of(tmp_path / "studies")
    assert "No study has a label." in page
    assert "<dd>0</dd><dt>labels</dt>" in page


def test_intensities_are_shares_of_pixels() -> None:
    view = np.zeros((1, 2, 4), dtype=np.uint8)
    view[0, 0] = (0, 3, 4, 255)  # bins of four grey values: 0, 0, 1 and 63
    shares = _histogram(view)
    assert shares.shape == (1, 64)
    assert [shares[0, 0], shares[0, 1], shares[0, 63], shares.sum()] == [0.75, 0.125, 0.125, 1]


def test_pixels_of_a_large_set_are_never_in_memory_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, noise = tmp_path / "studies", np.random.default_rng(0)
    row, padding, num_shards = row_of(0), 16_000, 12  # bytes after the end of a PNG are ignored
    for shard in range(num_shards):
        rows = [
            {**row, "image_id": f"{shard}/{n}", "view_png": row["view_png"] + noise.bytes(padding)} for n in range(256)
        ]
        write_table(study_shard_path(folder, str(shard)), rows, STUDY_SCHEMA, {"fingerprint": str(shard)})
    finish_study_set(folder, [str(shard) for shard in range(num_shards)], spec=SPEC, num_quarantined=0, skipped={})
    monkeypatch.setattr("arra_med.corpus.ingest_report._VIEWS_PER_SOURCE", 20)
    before, held, decoded = pa.total_allocated_bytes(), [0], []
    add, decode_png = StudyTally.add, study_tally.decode_png

    def watched_add(self: StudyTally, row: dict[str, Any]) -> None:
        held.append(pa.total_allocated_bytes() - before)
        add(self, row)

    def watched_decode(content: bytes) -> np.ndarray:
        held.append(pa.total_allocated_bytes() - before)
        decoded.append(len(content))
        return decode_png(content)

    monkeypatch.setattr(StudyTally, "add", watched_add)
    monkeypatch.setattr(study_tally, "decode_png", watched_decode)
    write_ingest_report(folder, tmp_path / "report.html")
    assert len(held) == 1 + num_shards * 256 + 20
    assert len(decoded) == 20
    assert max(held) < 0.4 * num_shards * 256 * padding  # some copies of one shard


def test_a_set_that_is_missing_or_damaged_is_named(studies: Path, tmp_path: Path) -> None:
    with pytest.raises(StudySetError, match="no finished study set"):
        write_ingest_report(tmp_path / "nothing", tmp_path / "report.html")
    shard = study_shard_path(studies, "second")
    content = shard.read_bytes()
    shard.write_bytes(content[:50] + bytes(200) + content[250:])
    with pytest.raises(StudySetError, match="a shard is damaged; run arra-med ingest into it again"):
        write_ingest_report(studies, tmp_path / "report.html")
    shard.unlink()
    with pytest.raises(StudySetError, match="is missing, damaged or from another ingestion"):
        write_ingest_report(studies, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
