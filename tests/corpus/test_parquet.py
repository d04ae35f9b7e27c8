import errno
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arra_med.corpus.parquet import clear_disk_errors, is_finished, open_dataset, read_metadata, write_table
from arra_med.errors import CorpusError, StudySetError

SCHEMA = pa.schema([("name", pa.string()), ("numbers", pa.list_(pa.int32()))])


def test_rows_and_metadata_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [{"name": "a", "numbers": [1, 2]}, {"name": "b", "numbers": []}]
    write_table(tmp_path / "shard-00000.parquet", rows, SCHEMA, {"fingerprint": "f", "count": 2})
    assert list(open_dataset([tmp_path / "shard-00000.parquet"], tmp_path)) == rows
    assert read_metadata(tmp_path / "shard-00000.parquet") == {"fingerprint": "f", "count": 2}


def test_a_rewritten_file_is_never_served_from_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "shard-00000.parquet"
    for name in ("old", "new"):
        write_table(path, [{"name": name, "numbers": [0]}], SCHEMA, {})
        assert list(open_dataset([path], tmp_path)["name"]) == [name]


def test_the_home_folder_stays_clean(tmp_path: Path) -> None:
    write_table(tmp_path / "shard-00000.parquet", [{"name": "a", "numbers": [1]}], SCHEMA, {})
    open_dataset([tmp_path / "shard-00000.parquet"], tmp_path)
    assert not [path for path in Path.home().rglob("*") if path.is_file()]
    assert (tmp_path / ".cache").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_can_be_read(tmp_path: Path) -> None:
    write_table(tmp_path / "shard-00000.parquet", [{"name": "a", "numbers": [1]}], SCHEMA, {})
    tmp_path.chmod(0o555)
    try:
        assert len(open_dataset([tmp_path / "shard-00000.parquet"], tmp_path)) == 1
        assert not (tmp_path / ".cache").exists()
    finally:
        tmp_path.chmod(0o755)


def test_a_file_that_is_missing_or_damaged_is_not_finished(tmp_path: Path) -> None:
    path = tmp_path / "shard-00000.parquet"
    assert not is_finished(path, "f")
    path.write_bytes(b"PAR1 and then nothing")
    assert not is_finished(path, "f")
    write_table(path, [], SCHEMA, {"fingerprint": "f"})
    assert is_finished(path, "f")
    assert not is_finished(path, "g")


def test_a_value_that_does_not_fit_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowException):
        write_table(tmp_path / "shard-00000.parquet", [{"name": 3, "numbers": "x"}], SCHEMA, {})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_sentence() -> None:
    with (
        pytest.raises(StudySetError, match=r"^out: cannot be written: the disk is full; free some space"),
        clear_disk_errors(StudySetError, Path("out")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_below_arrow_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "full.parquet"
    path.symlink_to("/dev/full")  # arrow removes what it could not write: the link, not the device
    with pytest.raises(CorpusError, match="the disk is full"), clear_disk_errors(CorpusError, tmp_path):
        pq.write_table(pa.table({"a": [b"x" * 100_000]}), path)


def test_another_system_error_is_not_hidden() -> None:
    with pytest.raises(OSError, match="odd"), clear_disk_errors(CorpusError, Path("out")):
        raise OSError(errno.EIO, "odd")
