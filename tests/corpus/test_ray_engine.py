import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import timm
import torch
from timm.models import save_for_hf

from arra_med.corpus.engine import EngineChoice, run_shards
from arra_med.corpus.features import extract_features
from arra_med.corpus.tokenize import tokenize
from arra_med.errors import CorpusError, EngineError
from tests.corpus.interrupted_runs import (
    assert_same_set,
    finish,
    ingest_here,
    kill,
    num_rows,
    start_ingest,
    wait_for_shards,
    write_many,
)

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytest.importorskip("ray", reason="ray is not installed: pip install 'arra-med[ray]'")
pytestmark = pytest.mark.slow
NUM_RECORDS = 1500


@pytest.fixture(scope="module")
def cluster() -> "Iterator[Cluster]":
    """A cluster of two machines (two nodes on this one), a processor each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - by default Ray gives way to everything else
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def on(cluster: "Cluster") -> EngineChoice:
    return EngineChoice(kind="ray", address=cluster.address)


class RefusingWorker:
    """A worker whose second shard fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def work(self, tasks: Iterable[int], advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
        for task in tasks:
            if task == 1:
                raise self.error
            yield {"shard": task}


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense:port"])
def test_without_a_cluster_the_message_says_how_to_start_one(address: str) -> None:
    engine = EngineChoice(kind="ray", address=address)
    with pytest.raises(EngineError, match=rf"there is no Ray cluster at '{address}'; start one \(ray start --head\)"):
        list(run_shards(RefusingWorker(OSError()), [0], [1], lambda _: None, engine))


def test_tokenize_and_features_give_the_bytes_of_the_local_engine(
    cluster: "Cluster", studies: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arra_med.corpus.tokenize.SHARD_ROWS", 4)
    monkeypatch.setattr("arra_med.corpus.features.SHARD_ROWS", 4)
    torch.manual_seed(0)
    save_for_hf(timm.create_model("test_vit"), tmp_path / "encoder")
    settings: dict[str, Any] = {"views": 3, "seed": 5, "device": "cpu", "progress": False}
    for name, engine in (("here", EngineChoice()), ("there", on(cluster))):
        tokenize(studies, tokenizer, tmp_path / name, engine=engine, **settings)
        encoder = f"timm:{tmp_path / 'encoder'}"
        extract_features(studies, encoder, tmp_path / f"{name}.parquet", engine=engine, **settings)
    here = sorted(path for path in (tmp_path / "here").iterdir() if path.is_file())
    assert len(here) == 4 + 1
    for path in here:
        assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


@pytest.mark.parametrize("error", [CorpusError("in its own words"), OSError(errno.ENOSPC, "No space left on device")])
def test_what_a_worker_raises_arrives_as_it_is(cluster: "Cluster", error: Exception) -> None:
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.raises(type(error)) as caught:
        list(run_shards(RefusingWorker(error), [0, 1], [1, 1], lambda _: None, on(cluster)))
    assert (str(caught.value), getattr(caught.value, "errno", None)) == (str(error), getattr(error, "errno", None))


def test_a_cluster_without_gpu_is_named(cluster: "Cluster", studies: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the cluster has no GPU; add a machine that has one, or give --device cpu"):
        tokenize(studies, tokenizer, tmp_path / "corpus", engine=on(cluster), device="cuda", progress=False)


def test_a_killed_driver_and_a_killed_machine_cost_no_file(cluster: "Cluster", tmp_path: Path) -> None:
    options = ("--engine", "ray", "--address", cluster.address)
    source = write_many(tmp_path / "source", NUM_RECORDS)
    ingest_here(source, tmp_path / "whole")
    out = tmp_path / "out"
    run = start_ingest(source, out, *options)
    wait_for_shards(out, 1, run)
    kill(run)
    assert not (out / "study_set.json").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("shard-*")}
    survived = num_rows(out)
    assert 0 < survived < NUM_RECORDS
    run = start_ingest(source, out, *options)
    wait_for_shards(out, len(list(out.glob("shard-*"))) + 1, run)
    cluster.remove_node(sorted(cluster.worker_nodes, key=str)[0], allow_graceful=False)
    told = finish(run)
    assert f"{NUM_RECORDS} studies written" in told
    # The actors of the dead driver may have finished their shards before they ended.
    kept = int(re.search(r"(\d+) of all rows kept", told)[1])  # type: ignore[index]
    assert survived <= kept < NUM_RECORDS
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert_same_set(out, tmp_path / "whole", NUM_RECORDS)
