import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arra_med.corpus.duplicates import find_duplicates
from arra_med.corpus.parquet import shard_path, write_table
from arra_med.corpus.study_rows import RECORD_FIELDS, STUDY_SCHEMA, decode_png, encode_png, view_sha256
from arra_med.corpus.study_set import StudySet, StudySetInfo, finish_study_set, study_shard_path
from arra_med.errors import StudySetError
from tests.corpus.tiny_studies import PATIENTS, SPEC, record, study_row, view, write_study_set


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_lossless(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 16, 16), dtype=np.uint8)
    np.testing.assert_array_equal(decode_png(encode_png(pixels)), pixels)


def test_records_and_views_come_back_in_order(studies: Path) -> None:
    study_set = StudySet.open(studies)
    assert len(study_set) == 6
    assert study_set.spec == SPEC
    expected = [record(n).model_copy(update={"path": "", "patient_id": f"hash{PATIENTS[n]}"}) for n in range(6)]
    assert study_set.records() == expected
    for number in range(6):
        np.testing.assert_array_equal(study_set.view(number), view(number))


def test_select_keeps_order_and_takes_exactly_the_rows_asked_for(tmp_path: Path, studies: Path) -> None:
    study_set = StudySet.open(studies)
    assert [r.image_id[-1] for r in study_set.select(split="train").records()] == ["0", "1", "2", "3"]
    assert study_set.select(split="test").image_ids == ["kermany_pneumonia/img5"]
    np.testing.assert_array_equal(study_set.select(split="test").view(0), view(5))
    write_study_set(tmp_path / "closed", redistributable=False)
    assert len(StudySet.open(tmp_path / "closed").select(redistributable_only=True)) == 0


def test_the_description_counts_rows_and_takes_the_strictest_licence(tmp_path: Path) -> None:
    info = write_study_set(tmp_path / "open")
    assert info.counts["split"] == {"test": 1, "train": 4, "validation": 1}
    assert info.counts["label"] == {"bacterial pneumonia": 3, "normal": 3}
    assert info.counts["laterality"] == {"unknown": 6}
    assert (info.licence_class, info.sources) == ("open", ("kermany_pneumonia",))
    assert info.attributions == {"kermany_pneumonia": ("Kermany et al.",)}
    closed = write_study_set(tmp_path / "closed", source="mimic_cxr", redistributable=True)
    assert closed.licence_class == "credentialed"


def test_the_content_hash_depends_on_what_is_told_and_shown_only(tmp_path: Path) -> None:
    same = [write_study_set(tmp_path / name).content_sha256 for name in ("one", "two")]
    other = write_study_set(tmp_path / "three", report="Another report.").content_sha256
    fewer = write_study_set(tmp_path / "four", num_studies=5).content_sha256
    assert same[0] == same[1]
    assert len({same[0], other, fewer}) == 3


def test_the_pixel_hash_tells_shapes_apart() -> None:
    pixels = np.zeros((1, 4, 9), np.uint8)
    assert view_sha256(pixels) != view_sha256(pixels.reshape(1, 6, 6))


def test_a_folder_without_description_is_unfinished(studies: Path) -> None:
    (studies / "study_set.json").unlink()
    with pytest.raises(
        StudySetError, match=r"no finished study set \(study_set.json is missing\); run arra-med ingest SOURCE"
    ):
        StudySet.open(studies)


def test_a_missing_or_damaged_shard_is_named(studies: Path) -> None:
    (studies / "shard-second.parquet").write_bytes(b"broken")
    with pytest.raises(
        StudySetError, match=r"shard-second.parquet is missing, damaged or from another ingestion; run arra-med ingest"
    ):
        StudySet.open(studies)


def test_a_shard_of_another_ingestion_is_refused(studies: Path) -> None:
    (studies / "shard-second.parquet").write_bytes((studies / "shard-first.parquet").read_bytes())
    with pytest.raises(StudySetError, match=r"shard-second.parquet is missing, damaged or from another ingestion"):
        StudySet.open(studies)


def test_another_format_version_is_refused(studies: Path) -> None:
    values = json.loads((studies / "study_set.json").read_text())
    (studies / "study_set.json").write_text(json.dumps({**values, "format_version": 99}))
    with pytest.raises(
        StudySetError, match="has format version 99, this program reads 1 and 2; run arra-med ingest again"
    ):
        StudySet.open(studies)


def test_a_damaged_description_names_its_keys(studies: Path) -> None:
    values = json.loads((studies / "study_set.json").read_text())
    (studies / "study_set.json").write_text(json.dumps({**values, "num_studies": "many"}))
    with pytest.raises(StudySetError, match="is not valid at num_studies"):
        StudySet.open(studies)
    (studies / "study_set.json").write_text("{")
    with pytest.raises(StudySetError, match="cannot be read"):
        StudySet.open(studies)


def test_a_set_without_any_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudySetError, match=r"no image could be read \(0 in quarantine\)"):
        write_study_set(tmp_path / "empty", num_studies=0)


def write_version_1(folder: Path) -> None:
    """Writes a set as the first version of the program wrote it: shards by number, rows without flags and hashes."""
    write_study_set(folder)
    schema = pa.schema([*RECORD_FIELDS, ("view_png", pa.binary()), ("view_sha256", pa.string())])
    for index, fingerprint in enumerate(("first", "second")):
        new = study_shard_path(folder, fingerprint)
        rows = pq.read_table(new, columns=schema.names).to_pylist()
        write_table(shard_path(folder, index), rows, schema, {"format_version": 1, "fingerprint": fingerprint})
        new.unlink()
    values = json.loads((folder / "study_set.json").read_text())
    for later in ("rules", "key_id", "flags", "duplicate_distance", "num_duplicates", "drops_duplicates"):
        del values[later]
    (folder / "study_set.json").write_text(json.dumps({**values, "format_version": 1}))


def test_a_set_of_version_1_is_read(tmp_path: Path, studies: Path) -> None:
    write_version_1(tmp_path / "old")
    old, new = StudySet.open(tmp_path / "old"), StudySet.open(studies)
    assert old.records() == new.records()
    assert old.content_sha256 == new.content_sha256
    np.testing.assert_array_equal(old.view(5), view(5))
    assert old.duplicates == {}


def test_flags_and_quality_are_columns(studies: Path) -> None:
    study_set = StudySet.open(studies)
    assert list(study_set.dataset["flags"]) == [[], ["overlay_ignored"], [], [], [], []]
    assert study_set.dataset[3]["quality"] == [{"name": "sharpness", "score": 1.5}]
    assert study_set.info.flags == {"overlay_ignored": 1}


def finish(folder: Path, **settings: Any) -> StudySetInfo:
    return finish_study_set(folder, ["first", "second"], spec=SPEC, num_quarantined=0, skipped={}, **settings)


def test_duplicates_are_listed_and_belong_to_the_set_unless_they_are_dropped(studies: Path) -> None:
    names = [f"kermany_pneumonia/img{number}" for number in range(6)]
    pairs = {names[4]: names[1]}
    listed = finish(studies, duplicates=pairs, duplicate_distance=2)
    assert StudySet.open(studies).image_ids == names
    assert StudySet.open(studies).duplicates == pairs
    assert (listed.num_studies, listed.num_duplicates, listed.duplicate_distance) == (6, 1, 2)
    dropped = finish(studies, duplicates=pairs, duplicate_distance=2, drop_duplicates=True)
    study_set = StudySet.open(studies)
    assert study_set.image_ids == names[:4] + names[5:]
    np.testing.assert_array_equal(study_set.view(4), view(5))
    assert (dropped.num_studies, dropped.counts["split"]) == (5, {"test": 1, "train": 4})
    assert dropped.content_sha256 != listed.content_sha256
    (studies / "duplicates.jsonl").unlink()
    with pytest.raises(StudySetError, match="does not list the 1 duplicates of the set; run arra-med ingest again"):
        StudySet.open(studies)
    assert finish(studies).num_duplicates == 0


def test_duplicates_are_those_whose_hashes_are_near_across_shards(studies: Path) -> None:
    rows = [study_row(number) for number in range(6)]
    rows[5] = {**rows[5], "perceptual_hash": rows[0]["perceptual_hash"] ^ 0b101}
    files = [study_shard_path(studies, name) for name in ("first", "second")]
    write_table(files[1], rows[2:], STUDY_SCHEMA, {"fingerprint": "second"})
    assert find_duplicates(files, 1) == {}
    assert find_duplicates(files, 2) == {"kermany_pneumonia/img5": "kermany_pneumonia/img0"}
