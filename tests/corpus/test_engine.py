import os
import signal
from pathlib import Path

import pytest

from arra_med.corpus.engine import require_visible
from arra_med.errors import EngineError
from tests.corpus.interrupted_runs import (
    assert_same_set,
    children,
    finish,
    ingest_here,
    kill,
    num_rows,
    start_ingest,
    wait_for_shards,
    write_many,
)

NUM_RECORDS = 1000
pytestmark = pytest.mark.slow
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds worker processes in /proc")


@needs_proc
def test_a_killed_worker_costs_no_file(tmp_path: Path) -> None:
    source = write_many(tmp_path / "source", NUM_RECORDS)
    ingest_here(source, tmp_path / "whole")
    run = start_ingest(source, tmp_path / "out", "--workers", "2")
    wait_for_shards(tmp_path / "out", 1, run)
    os.kill(children(run.pid)[0], signal.SIGKILL)
    assert f"{NUM_RECORDS} studies written" in finish(run)
    assert_same_set(tmp_path / "out", tmp_path / "whole", NUM_RECORDS)


def test_after_a_killed_driver_the_next_run_does_what_is_missing(tmp_path: Path) -> None:
    source = write_many(tmp_path / "source", NUM_RECORDS)
    ingest_here(source, tmp_path / "whole")
    out = tmp_path / "out"
    run = start_ingest(source, out, "--workers", "2")
    wait_for_shards(out, 1, run)
    kill(run)
    assert not (out / "study_set.json").exists()
    survived = num_rows(out)
    assert 0 < survived < NUM_RECORDS
    told = finish(start_ingest(source, out, "--workers", "2"))
    assert f"{NUM_RECORDS} studies written" in told
    assert f"{survived} of all rows kept from an earlier run" in told
    assert_same_set(out, tmp_path / "whole", NUM_RECORDS)


def test_a_shard_that_is_not_to_be_seen_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="a machine of the cluster wrote shard-f.parquet, which is not to be seen"):
        require_visible(tmp_path / "shard-f.parquet", "f")
