import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arra_med.corpus.decoding import DecodingPool, DecodingSettings
from arra_med.corpus.ingest import IngestReport, ingest
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.study_shards import ShardDecoder
from arra_med.errors import CardError, ConfigError, ManifestError, StudySetError
from arra_med.imaging.read import StudyView, load_view, read_study_view
from arra_med.imaging.rules import ReadingRules
from arra_med.records.manifest import write_manifest
from arra_med.records.study import StudyRecord
from tests.corpus.tiny_studies import SPEC, record


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arra_med.corpus.ingest_plan.SHARD_STUDIES", 2)


def write_source(folder: Path, records: list[StudyRecord] | None = None) -> Path:
    """Writes PNG images of random pixels and their manifest; returns the manifest's path."""
    records = records or [record(number) for number in range(6)]
    placed = []
    for number, its_record in enumerate(records):
        path = folder / "ward7" / f"SMITH-JANE-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (24, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        placed.append(its_record.model_copy(update={"path": str(path)}))
    write_manifest(placed, folder / "studies.csv")
    return folder / "studies.csv"


def run(source: Path, out: Path, **settings: Any) -> IngestReport:
    return ingest(source, out, SPEC, **{"workers": 0, "progress": False, **settings})


def quarantine_rows(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]


def test_views_are_those_of_load_view_and_records_those_of_the_manifest(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    assert run(source, tmp_path / "out") == IngestReport(written=6, quarantined=0, skipped=0)
    study_set = StudySet.open(tmp_path / "out")
    for number, found in enumerate(study_set.records()):
        wanted = record(number).model_copy(update={"patient_id": found.patient_id, "path": ""})
        assert found == wanted
        path = tmp_path / "ward7" / f"SMITH-JANE-{number}.png"
        np.testing.assert_array_equal(study_set.view(number), load_view(path, SPEC))
    assert not (tmp_path / "out" / "quarantine.jsonl").exists()


def test_one_patient_has_one_hash_and_two_have_two(tmp_path: Path) -> None:
    run(write_source(tmp_path), tmp_path / "out")
    hashes = [found.patient_id for found in StudySet.open(tmp_path / "out").records()]
    assert [hashes[0] == hashes[1], hashes[2] == hashes[3], hashes[0] == hashes[2]] == [True, True, False]


def test_broken_files_are_quarantined_and_the_good_ones_are_done(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    ward = tmp_path / "ward7"
    (ward / "SMITH-JANE-1.png").write_bytes((ward / "SMITH-JANE-1.png").read_bytes()[:200])
    (ward / "SMITH-JANE-2.png").write_bytes(b"")
    (ward / "SMITH-JANE-4.png").write_text("a letter")  # with the next one it empties a shard
    (ward / "SMITH-JANE-5.png").unlink()
    report = run(source, tmp_path / "out")
    assert (report.written, report.quarantined, report.total) == (2, 4, 6)
    assert StudySet.open(tmp_path / "out").image_ids == ["kermany_pneumonia/img0", "kermany_pneumonia/img3"]
    rows = quarantine_rows(tmp_path / "out")
    assert [(row["image_id"][-1], row["reason"]) for row in rows] == [
        ("1", "truncated"),
        ("2", "empty"),
        ("4", "not_an_image"),
        ("5", "missing"),
    ]
    assert report.reasons == {"empty": 1, "missing": 1, "not_an_image": 1, "truncated": 1}
    assert rows[3]["path"] == str(ward / "SMITH-JANE-5.png")
    assert all(row["message"] for row in rows)
    assert stat.S_IMODE((tmp_path / "out" / "quarantine.jsonl").stat().st_mode) == 0o600


def test_every_row_is_counted_once(tmp_path: Path) -> None:
    others = {"image_id": "odir5k/a", "modality": "fundus", "source": "odir5k", "view": None, "laterality": "L"}
    records = [record(n, redistributable=n != 2) for n in range(6)] + [record(0, **others)]
    source = write_source(tmp_path, records)
    (tmp_path / "ward7" / "SMITH-JANE-0.png").write_bytes(b"")
    report = run(source, tmp_path / "out", redistributable_only=True, limit=4)
    assert (report.written, report.quarantined, report.skipped, report.total) == (3, 1, 3, 7)
    assert report.skip_reasons == {"not_redistributable": 1, "other_modality": 1, "over_limit": 1}
    info = StudySet.open(tmp_path / "out").info
    assert (info.num_studies, info.num_quarantined, info.skipped) == (3, 1, report.skip_reasons)
    assert info.redistributable_only


def test_a_second_run_reads_no_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_source(tmp_path)
    (tmp_path / "ward7" / "SMITH-JANE-3.png").write_bytes(b"")
    first = run(source, tmp_path / "out")
    description = (tmp_path / "out" / "study_set.json").read_bytes()
    monkeypatch.setattr(DecodingPool, "decode", lambda _, paths: iter([pytest.fail(path) for path in paths]))
    second = run(source, tmp_path / "out")
    assert (second.written, second.quarantined, second.kept) == (first.written, first.quarantined, 6)
    assert (tmp_path / "out" / "study_set.json").read_bytes() == description
    assert len(quarantine_rows(tmp_path / "out")) == 1


@pytest.fixture
def read_paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, as they are read."""
    names: list[str] = []

    def read(path: Path, *settings: Any) -> StudyView:
        names.append(path.name)
        return read_study_view(path, *settings)

    work = ShardDecoder.__init__
    monkeypatch.setattr(
        ShardDecoder, "__init__", lambda self, *given, **named: work(self, *given, **{**named, "read": read})
    )
    return names


def rows_of(out: Path) -> list[dict[str, Any]]:
    return list(StudySet.open(out).dataset)


def test_only_a_mended_file_is_read_again(tmp_path: Path, read_paths: list[str]) -> None:
    source = write_source(tmp_path)
    broken = tmp_path / "ward7" / "SMITH-JANE-3.png"
    good = broken.read_bytes()
    broken.write_bytes(b"")
    run(source, tmp_path / "out")
    broken.write_bytes(good)
    read_paths.clear()
    report = run(source, tmp_path / "out")
    assert (report.written, report.quarantined, report.kept) == (6, 0, 5)
    assert read_paths == ["SMITH-JANE-3.png"]
    assert not (tmp_path / "out" / "quarantine.jsonl").exists()


def test_files_that_are_added_or_taken_away_cost_no_other_file_and_keep_the_order(
    tmp_path: Path, read_paths: list[str]
) -> None:
    records = [record(number) for number in range(6)]
    run(write_source(tmp_path, records[:2] + records[3:]), tmp_path / "out")
    inserted = tmp_path / "ward7" / "new.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (24, 20), dtype=np.uint8)).save(inserted)
    rows = (tmp_path / "studies.csv").read_text().splitlines()
    cells = rows[3].replace("img3", "img2").replace("SMITH-JANE-2.png", "new.png")
    (tmp_path / "studies.csv").write_text("\n".join([*rows[:3], cells, *rows[3:]]) + "\n")
    read_paths.clear()
    report = run(tmp_path / "studies.csv", tmp_path / "out")
    assert read_paths == ["new.png"]
    assert (report.written, report.kept) == (6, 5)
    assert StudySet.open(tmp_path / "out").image_ids == [each.image_id for each in records]
    run(tmp_path / "studies.csv", tmp_path / "fresh")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")
    (tmp_path / "studies.csv").write_text("\n".join(rows[:-1]) + "\n")
    read_paths.clear()
    assert run(tmp_path / "studies.csv", tmp_path / "out").kept == 4
    assert read_paths == []
    assert len(list((tmp_path / "out").glob("shard-*"))) == len(StudySet.open(tmp_path / "out").info.shards)


def test_another_word_about_a_study_rewrites_its_row_without_reading_its_file(
    tmp_path: Path, read_paths: list[str]
) -> None:
    source = write_source(tmp_path)
    run(source, tmp_path / "out")
    source.write_text(source.read_text().replace("Frontal chest radiograph.", "Another wording.", 1))
    read_paths.clear()
    assert run(source, tmp_path / "out").kept == 6
    assert read_paths == []
    reports = [found.report for found in StudySet.open(tmp_path / "out").records()]
    assert reports == ["Another wording."] + ["Frontal chest radiograph."] * 5


def test_a_file_that_another_image_now_names_is_read_for_it(tmp_path: Path, read_paths: list[str]) -> None:
    source = write_source(tmp_path)
    run(source, tmp_path / "out")
    words = source.read_text().replace("JANE-0", "JANE-x").replace("JANE-1", "JANE-0").replace("JANE-x", "JANE-1")
    source.write_text(words)
    run(source, tmp_path / "out")
    for row, number in enumerate((1, 0, 2)):
        path = tmp_path / "ward7" / f"SMITH-JANE-{number}.png"
        np.testing.assert_array_equal(StudySet.open(tmp_path / "out").view(row), load_view(path, SPEC))


def test_verify_finds_other_content_behind_the_same_size_and_time(tmp_path: Path, read_paths: list[str]) -> None:
    source = write_source(tmp_path)
    path = tmp_path / "ward7" / "SMITH-JANE-3.png"
    size = 2000
    for name, seed in (("first", 3), ("second", 33)):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 20), dtype=np.uint8)).save(
            tmp_path / name, "png"
        )
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content + bytes(size - len(content)))
    path.write_bytes((tmp_path / "first").read_bytes())
    os.utime(path, ns=(10**18, 10**18))
    run(source, tmp_path / "out")
    before = StudySet.open(tmp_path / "out").content_sha256
    path.write_bytes((tmp_path / "second").read_bytes())
    os.utime(path, ns=(10**18, 10**18))
    read_paths.clear()
    assert run(source, tmp_path / "out").kept == 6
    assert StudySet.open(tmp_path / "out").content_sha256 == before
    assert run(source, tmp_path / "out", verify=True).kept == 5
    assert read_paths == ["SMITH-JANE-3.png"]
    np.testing.assert_array_equal(StudySet.open(tmp_path / "out").view(3), load_view(path, SPEC))
    read_paths.clear()
    assert run(source, tmp_path / "out", verify=True).kept == 6
    assert read_paths == []


def test_a_refused_file_is_tried_again_where_the_limits_are_others(tmp_path: Path, read_paths: list[str]) -> None:
    source = write_source(tmp_path)
    (tmp_path / "ward7" / "SMITH-JANE-3.png").write_bytes(b"")
    run(source, tmp_path / "out")
    read_paths.clear()
    settings = DecodingSettings(spec=SPEC, time_limit_s=600)
    assert ingest(source, tmp_path / "out", settings, workers=0, progress=False).kept == 5
    assert read_paths == ["SMITH-JANE-3.png"]


def test_other_permissions_read_every_file_again(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    run(source, tmp_path / "out")
    settings = DecodingSettings(spec=SPEC, rules=ReadingRules(allow_burned_in=True))
    report = ingest(source, tmp_path / "out", settings, workers=0, progress=False)
    assert report.kept == 0
    assert StudySet.open(tmp_path / "out").info.rules == settings.rules


def test_an_interrupted_run_loses_no_finished_shard_and_ends_at_the_same_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(tmp_path)
    whole = run(source, tmp_path / "whole")
    num_shards = len(list((tmp_path / "whole").glob("shard-*")))
    assert num_shards > 1
    write = ShardDecoder._write
    written = 0

    def interrupted(self: ShardDecoder, shard: Any) -> Any:
        nonlocal written
        if written == num_shards - 1:
            raise KeyboardInterrupt
        written += 1
        return write(self, shard)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ShardDecoder, "_write", interrupted)
        run(source, tmp_path / "out")
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(names) == num_shards - 1
    assert all(name.startswith("shard-") for name in names)
    with pytest.raises(StudySetError, match="no finished study set"):
        StudySet.open(tmp_path / "out")
    report = run(source, tmp_path / "out")
    assert report.written == whole.written
    assert 0 < report.kept < 6
    for path in (tmp_path / "whole").glob("*.*"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_a_lost_or_damaged_quarantine_file_is_made_again_from_the_shards(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    (tmp_path / "ward7" / "SMITH-JANE-3.png").write_bytes(b"")
    run(source, tmp_path / "out")
    before = quarantine_rows(tmp_path / "out")
    for damage in (Path.unlink, lambda path: path.write_text("{")):
        damage(tmp_path / "out" / "quarantine.jsonl")
        assert run(source, tmp_path / "out").kept == 6
        assert quarantine_rows(tmp_path / "out") == before
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in (tmp_path / "out").glob("shard-*"))


def test_duplicates_are_listed_by_default_and_quarantined_on_request(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    ward = tmp_path / "ward7"
    (ward / "SMITH-JANE-4.png").write_bytes((ward / "SMITH-JANE-1.png").read_bytes())
    report = run(source, tmp_path / "out")
    assert (report.written, report.num_duplicates, report.reasons) == (6, 1, {})
    assert StudySet.open(tmp_path / "out").duplicates == {"kermany_pneumonia/img4": "kermany_pneumonia/img1"}
    report = run(source, tmp_path / "out", drop_duplicates=True)
    assert (report.written, report.quarantined, report.kept, report.total) == (5, 1, 6, 6)
    assert report.reasons == {"duplicate": 1}
    (row,) = quarantine_rows(tmp_path / "out")
    assert (row["reason"], row["path"]) == ("duplicate", str(ward / "SMITH-JANE-4.png"))
    assert row["message"] == "shows the same picture as kermany_pneumonia/img1, an earlier image"
    assert "kermany_pneumonia/img4" not in StudySet.open(tmp_path / "out").image_ids
    report = run(source, tmp_path / "out", duplicate_distance=None)
    assert (report.written, report.num_duplicates) == (6, 0)


def test_identifiers_are_taken_out_of_what_a_person_wrote_alone(tmp_path: Path) -> None:
    words = "No effusion. Dictated by Dr. Alan Smithee on 3/4/2019. Heart size is normal."
    records = [record(0, report=words, report_kind="written"), record(1, report="Seen 3/4/2019.")]
    run(write_source(tmp_path, records), tmp_path / "out")
    written, made = (found.report for found in StudySet.open(tmp_path / "out").records())
    assert "Smithee" not in written
    assert "2019" not in written
    assert written.startswith("No effusion.")
    assert "Heart size is normal." in written
    assert made == "Seen 3/4/2019."


def test_a_set_of_another_key_is_not_mixed_with_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_source(tmp_path)
    run(source, tmp_path / "out")
    assert StudySet.open(tmp_path / "out").info.key_id
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(tmp_path / "other.key"))
    with pytest.raises(ConfigError, match="was made with another pseudonym key"):
        run(source, tmp_path / "out")


def test_what_a_source_leaves_open_is_noted_where_only_its_owner_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_source(folder)
    (folder / "studies.csv").unlink()
    (folder / "ward7" / "SMITH-JANE-0.txt").write_text("Clear lungs.")
    (folder / "ward7" / "alone.txt").write_text("A report without an image.")
    report = run(folder, tmp_path / "out")
    assert report.notes == {"report_without_image": 1}
    notes = tmp_path / "out" / "source_notes.jsonl"
    assert json.loads(notes.read_text()) == {
        "kind": "report_without_image",
        "path": str(folder / "ward7" / "alone.txt"),
    }
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600


def test_another_size_replaces_the_set_and_fewer_rows_leave_no_stale_shard(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    run(source, tmp_path / "out")
    spec = SPEC.model_copy(update={"size_px": 20})
    ingest(source, tmp_path / "out", spec, workers=0, limit=3, progress=False)
    study_set = StudySet.open(tmp_path / "out")
    assert (len(study_set), study_set.view(0).shape) == (3, (1, 20, 20))
    assert len(list((tmp_path / "out").glob("shard-*"))) == len(study_set.info.shards)


def test_no_patient_and_no_path_stands_in_any_file_but_the_quarantine(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    (tmp_path / "ward7" / "SMITH-JANE-3.png").write_bytes(b"")
    out = tmp_path / "out"
    run(source, out)
    study_set = StudySet.open(out)
    values = json.dumps([[v for k, v in row.items() if k != "view_png"] for row in study_set.dataset])
    pngs = b"".join(study_set.dataset["view_png"])
    assert "SMITH" not in values
    for path in out.rglob("*"):
        if path.is_file() and path.name != "quarantine.jsonl":
            for secret in (b"SMITH", b"ward7", str(tmp_path).encode()):
                assert secret not in path.read_bytes() + pngs, path.name


def test_a_source_without_a_card_is_refused_before_any_work(tmp_path: Path) -> None:
    source = write_source(tmp_path, [record(0, source="unheard_of")])
    with pytest.raises(CardError, match="'unheard_of' has no data card"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path, [record(0), record(1, split="test")])
    with pytest.raises(ManifestError, match="an earlier row puts the same patient into another split"):
        run(source, tmp_path / "out")


def test_rows_without_a_split_get_one(tmp_path: Path) -> None:
    run(write_source(tmp_path, [record(n, split=None) for n in range(6)]), tmp_path / "out")
    assert None not in [found.split for found in StudySet.open(tmp_path / "out").records()]


def test_nothing_left_says_which_rule_took_it(tmp_path: Path) -> None:
    source = write_source(tmp_path, [record(n, redistributable=False) for n in range(3)])
    with pytest.raises(StudySetError, match=r"no cxr study is left to ingest \(not_redistributable: 3\)"):
        run(source, tmp_path / "out", redistributable_only=True)


def test_no_readable_image_at_all_is_an_error_with_the_reasons_kept(tmp_path: Path) -> None:
    source = write_source(tmp_path, [record(0)])
    (tmp_path / "ward7" / "SMITH-JANE-0.png").write_bytes(b"")
    with pytest.raises(StudySetError, match=r"no image could be read \(1 in quarantine\)"):
        run(source, tmp_path / "out")
    assert [row["reason"] for row in quarantine_rows(tmp_path / "out")] == ["empty"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("arra_med.corpus.parquet.pq.write_table", full)
    with pytest.raises(StudySetError, match="the disk is full; free some space and run the same command again"):
        run(source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_worker_processes_give_what_this_process_gives(tmp_path: Path) -> None:
    source = write_source(tmp_path)
    (tmp_path / "ward7" / "SMITH-JANE-3.png").write_bytes(b"")
    run(source, tmp_path / "here")
    report = run(source, tmp_path / "there", workers=2)
    assert (report.written, report.quarantined) == (5, 1)
    for path in (tmp_path / "here").glob("*.*"):
        assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.real_data
@pytest.mark.parametrize(("modality", "source"), [("cxr", "cxr/studies.csv"), ("fundus", "fundus")])
def test_real_studies_are_ingested(tmp_path: Path, real_data: Path, modality: str, source: str) -> None:
    spec = SPEC.model_validate({"modality": modality, "size_px": 32})
    report = ingest(real_data / source, tmp_path / "out", spec, workers=0, limit=10, progress=False)
    assert (report.written, report.quarantined) == (10, 0)
    study_set = StudySet.open(tmp_path / "out")
    assert study_set.view(9).shape == (spec.channels, 32, 32)
    assert all(record.patient_id.isalnum() for record in study_set.records())


@pytest.mark.real_data
def test_real_dicom_files_are_ingested_or_quarantined_with_a_reason(tmp_path: Path, real_data: Path) -> None:
    folders = [real_data / "dicom" / name for name in ("xray", "odd_or_malformed", "no_pixels")]
    for folder in folders:
        num_files = sum(path.is_file() for path in folder.rglob("*"))
        try:
            report = ingest(folder, tmp_path / folder.name, SPEC, workers=0, progress=False)
        except StudySetError as error:
            assert "no image could be read" in str(error)  # noqa: PT017 - the rest of the claim is below
            assert len(quarantine_rows(tmp_path / folder.name)) == num_files
        else:
            assert report.written > 0
            assert report.total == num_files
