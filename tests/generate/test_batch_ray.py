"""Tables of prompts on a Ray cluster: the files of the local engine, also where a worker is killed."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from arra_med.corpus.engine import LOCAL, EngineChoice
from arra_med.errors import EngineError, GenerationError
from arra_med.generate.batch import BatchReport, draw_table
from arra_med.generate.batch_checked import TableCheck
from arra_med.generate.checking import ImageVerdict
from arra_med.generate.prompt_table import read_prompt_table
from arra_med.models.bundle import ModelBundle

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytest.importorskip("ray", reason="ray is not installed: pip install 'arra-med[ray]'")
pytestmark = pytest.mark.slow
NUM_IMAGES = 12


@pytest.fixture(scope="module")
def cluster() -> "Iterator[Cluster]":
    """A cluster of one machine with one processor."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - by default Ray gives way to everything else
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.csv"
    path.write_text("report,num_images\nEffusion.,4\nPA view. Normal.,8\n")
    return path


def draw(table: Path, bundle_folder: Path, out: Path, engine: EngineChoice, **settings: Any) -> BatchReport:
    rows = read_prompt_table(table, modality="cxr")
    fixed: dict[str, Any] = {
        "engine": engine,
        "batch_size": 3,
        "device": "cpu",
        "backend": "transformers",
        "progress": False,
    }
    return draw_table(table, rows, bundle_folder, out, **{**fixed, **settings})


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}


def killing_once(marker: Path) -> Any:
    """Opens the bundle; the first process that has read the model some times is killed, as by `kill -9`."""

    def open_bundle(run: Any) -> ModelBundle:
        bundle = ModelBundle.load(run.bundle)
        calls = iter(range(10**9))

        def kill(*_: Any) -> None:
            if next(calls) == 60 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        bundle.model.base_model.register_forward_pre_hook(kill)
        return bundle

    return open_bundle


def full_memory(run: Any) -> ModelBundle:
    bundle = ModelBundle.load(run.bundle)

    def refuse(*_: Any) -> None:
        raise RuntimeError("CUDA out of memory")

    bundle.model.base_model.register_forward_pre_hook(refuse)
    return bundle


def test_a_killed_worker_costs_no_image_and_the_files_are_those_of_the_local_engine(
    cluster: "Cluster", table: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    import sys

    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    engine, marker = EngineChoice(kind="ray", address=cluster.address), tmp_path / "killed"
    there = draw(table, bundle_folder, tmp_path / "there", engine, open_bundle=killing_once(marker))
    assert marker.exists()
    assert (there.total, there.kept) == (NUM_IMAGES, 0)
    draw(table, bundle_folder, tmp_path / "here", LOCAL)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert draw(table, bundle_folder, tmp_path / "there", engine).kept == NUM_IMAGES
    with pytest.raises(GenerationError, match="the memory is full with one image at a time"):
        draw(table, bundle_folder, tmp_path / "full", engine, open_bundle=full_memory)


class Picky:
    """Rejects half of all pictures, by their content."""

    identity: ClassVar[dict[str, Any]] = {"reference_sha256": "cd" * 32}

    def judge(self, images: np.ndarray, request: Any, kept: Sequence[np.ndarray] = ()) -> list[ImageVerdict]:
        numbers = [int(image.astype(np.int64).sum()) for image in images]
        return [ImageVerdict({"novelty": 1.0}, ("novelty",) * (number % 2)) for number in numbers]


def test_a_checked_table_is_the_same_on_a_cluster(
    cluster: "Cluster", table: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    import sys

    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    check = TableCheck(lambda device: Picky(), Picky.identity)
    there = draw(
        table, bundle_folder, tmp_path / "there", EngineChoice(kind="ray", address=cluster.address), check=check
    )
    here = draw(table, bundle_folder, tmp_path / "here", LOCAL, check=check)
    assert there.check == here.check
    assert 0 < here.check.num_rejected < NUM_IMAGES
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_without_a_cluster_the_message_says_how_to_start_one(table: Path, bundle_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"there is no Ray cluster at '127.0.0.1:9'; start one \(ray start --head\)"):
        draw(table, bundle_folder, tmp_path / "out", EngineChoice(kind="ray", address="127.0.0.1:9"))
