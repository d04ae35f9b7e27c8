import csv
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arra_med.corpus.decoding import DecodingSettings
from arra_med.corpus.dry_run import DryRunReport, DryRunRow, dry_run
from arra_med.corpus.ingest import ingest
from arra_med.corpus.study_set import StudySet
from arra_med.errors import CardError, StudySetError
from arra_med.imaging.view import CanonicalView
from arra_med.records.manifest import write_manifest
from tests.corpus.tiny_studies import record
from tests.imaging.conftest import dicom_header

SETTINGS = DecodingSettings(spec=CanonicalView(modality="cxr", size_px=32))


def pattern(number: int, side_px: int = 64) -> np.ndarray:
    """Smooth uint8 patterns, of which no two look alike."""
    rows, columns = np.mgrid[:side_px, :side_px] / side_px
    waves = np.random.default_rng(number).normal(size=(4, 3))
    image = sum(a * np.sin(7 * b * rows + 7 * c * columns) for a, b, c in waves)
    return ((image - image.min()) / np.ptp(image) * 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ward's folder: DICOM files (good, for processing, truncated), images (good, the same again, broken), a letter."""
    ward = tmp_path / "ward7"
    ward.mkdir()
    twelve_bits = {"BitsStored": 12, "PatientOrientation": ["R", "F"]}
    stored = pattern(0).astype(np.uint16) * 16
    dicom_header(stored, ViewPosition="PA", **twelve_bits).save_as(ward / "SMITH.dcm", enforce_file_format=True)
    dicom_header(stored, PresentationIntentType="FOR PROCESSING", **twelve_bits).save_as(
        ward / "raw.dcm", enforce_file_format=True
    )
    (ward / "cut.dcm").write_bytes((ward / "SMITH.dcm").read_bytes()[:-2000])
    Image.fromarray(pattern(1)).save(ward / "film.png")
    Image.fromarray(pattern(1)).save(ward / "film_again.png")
    (ward / "broken.png").write_bytes((ward / "film.png").read_bytes()[:300])
    (ward / "letter.png").write_text("Dear colleague")
    (ward / "letter.txt").write_text("Dear colleague")
    return ward


def run(source: Path, settings: DecodingSettings = SETTINGS, **choices: Any) -> DryRunReport:
    return dry_run(source, settings, **{"workers": 0, "progress": False, **choices})


@pytest.mark.parametrize("drop_duplicates", [False, True])
def test_what_it_says_is_what_ingestion_then_does(folder: Path, tmp_path: Path, drop_duplicates: bool) -> None:
    told = run(folder, drop_duplicates=drop_duplicates)
    assert not (tmp_path / "out").exists()
    done = ingest(folder, tmp_path / "out", SETTINGS, workers=0, progress=False, drop_duplicates=drop_duplicates)
    studies = StudySet.open(tmp_path / "out")
    assert [row.image_id for row in told.rows if row.outcome == "written"] == studies.image_ids
    flags = {row.image_id: list(row.flags) for row in told.rows if row.outcome == "written"}
    assert flags == dict(zip(studies.image_ids, studies.dataset["flags"], strict=True))
    splits = {row.image_id: row.split for row in told.rows if row.outcome == "written"}
    assert splits == dict(zip(studies.image_ids, studies.dataset["split"], strict=True))
    rows = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    refused = [row for row in told.rows if row.outcome == "quarantined"]
    assert [(row.image_id, row.reason, row.message) for row in refused] == [
        (row["image_id"], row["reason"], row["message"]) for row in rows
    ]
    assert told.count("quarantined") == done.reasons
    expected = {"for_processing": 1, "not_an_image": 1, "truncated": 2}
    assert done.reasons == (expected | {"duplicate": 1} if drop_duplicates else expected)


def test_workers_tell_the_same(folder: Path) -> None:
    assert run(folder, workers=1) == run(folder)


def test_rows_that_a_rule_leaves_out_are_told_and_their_files_not_read(tmp_path: Path) -> None:
    Image.fromarray(pattern(0)).save(tmp_path / "film.png")
    records = [
        record(0, path=str(tmp_path / "film.png")),
        record(1, path=str(tmp_path / "none.png"), redistributable=False),
    ]
    write_manifest(records, tmp_path / "studies.csv")
    told = run(tmp_path / "studies.csv", redistributable_only=True)
    assert [(row.outcome, row.reason, row.view) for row in told.rows] == [
        ("written", "", "AP"),
        ("left_out", "not_redistributable", "AP"),
    ]


def test_a_sample_is_seeded_and_the_rest_is_counted(folder: Path) -> None:
    whole, few = run(folder), run(folder, sample=3)
    assert (len(few.rows), few.num_unread, whole.num_unread) == (3, 4, 0)
    assert set(few.rows) <= set(whole.rows)
    assert run(folder, sample=3) == few
    assert len({run(folder, sample=3, seed=seed).rows for seed in range(6)}) > 1
    assert run(folder, sample=7) == whole
    with pytest.raises(StudySetError, match="sample is 0; a dry run reads at least 1 image"):
        run(folder, sample=0)


def test_the_lists_are_readable_by_the_owner_alone_and_hold_no_path(folder: Path, tmp_path: Path) -> None:
    told = run(folder)
    told.write_json(tmp_path / "told.json")
    told.write_table(tmp_path / "told.csv")
    for path in (tmp_path / "told.json", tmp_path / "told.csv"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for secret in ("SMITH", "ward7", "film", str(tmp_path), "DOE"):
            assert secret not in path.read_text()
    values = json.loads((tmp_path / "told.json").read_text())
    assert values["counts"] == {
        "written": {"": 3},
        "quarantined": {"truncated": 2, "for_processing": 1, "not_an_image": 1},
        "left_out": {},
    }
    with (tmp_path / "told.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["image_id"] for row in table] == [row["image_id"] for row in values["files"]]
    good = next(row for row in table if row["view"] == "PA" and row["outcome"] == "written")
    assert good["flags"].split() == ["percentile_window", "orientation_suggests_mirror"]


def test_the_table_counts_by_outcome_and_reason() -> None:
    rows = [DryRunRow("a", "written", "", "", "PA", "train", ("overlay_ignored",))]
    rows += [DryRunRow(name, "quarantined", "truncated", "ends early", "", "train", ()) for name in "bc"]
    rows += [DryRunRow("d", "left_out", "over_limit", "", "", "train", ())]
    assert DryRunReport(tuple(rows), num_unread=1200).lines() == [
        "        1  would be written",
        "        2  would go to quarantine",
        "        2    truncated",
        "        1  would be left out",
        "        1    over_limit",
        "    1,200  not in the sample",
        "flags of what would be written:",
        "        1    overlay_ignored",
    ]


def test_a_source_without_a_card_is_refused_as_ingestion_does(tmp_path: Path) -> None:
    write_manifest([record(0, source="unheard_of", path="x.png")], tmp_path / "studies.csv")
    with pytest.raises(CardError, match="'unheard_of' has no data card"):
        run(tmp_path / "studies.csv")
