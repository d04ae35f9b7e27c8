"""Images drawn by Ray Serve workers: those of a session in this process, also where workers are killed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from arra_med.errors import GenerationError
from arra_med.generate.decoding import GenerationStopped
from arra_med.generate.request import GenerationRequest
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import ReportToImage
from arra_med.models.bundle import ModelBundle

if TYPE_CHECKING:
    from arra_med.generate.serving import ServedReportToImage, Workers

pytest.importorskip("ray.serve", reason="ray is not installed: pip install 'arra-med[ray]'", exc_type=ImportError)
pytestmark = pytest.mark.slow

REQUEST = GenerationRequest(report="PA view. Effusion.", modality="cxr", num_images=3, seed=11)


@pytest.fixture(scope="module")
def workers() -> "Iterator[Workers]":
    from arra_med.generate.serving import Workers

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - by default Ray gives way to everything else
    workers = Workers(2)
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def served(workers: "Workers", bundle: ModelBundle, bundle_folder: Path) -> "ServedReportToImage":
    from arra_med.generate.serving import ServedReportToImage

    return ServedReportToImage(ModelBundle.load(bundle_folder), bundle_folder, workers)


def replicas() -> list[int]:
    """Process ids of the workers."""
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and "ray::ServeReplica" in (folder / "cmdline").read_text(errors="replace")
    ]


def test_workers_draw_what_this_process_draws(served: "ServedReportToImage"):
    here = ReportToImage(served.bundle).generate(REQUEST)
    updates = list(served.stream(REQUEST))
    there = updates[-1].result
    assert there is not None
    np.testing.assert_array_equal(there.images, here.images)
    assert there.codes.tolist() == here.codes.tolist()
    assert there.provenance["bundle"] == here.provenance["bundle"]
    shares = [update.progress for update in updates]
    assert shares == sorted(shares)
    assert len(shares) == 6  # the start, four rows, the end
    kept = here.codes[0].clone()
    kept[0, 0] = -1
    redrawn = [update.result for update in served.stream(REQUEST, seeds=(5,), kept=kept)][-1]
    assert redrawn is not None
    assert redrawn.codes[0].flatten()[1:].tolist() == here.codes[0].flatten()[1:].tolist()


def test_workers_draw_the_codes_of_a_batch_and_stop_when_asked(served: "ServedReportToImage"):
    requests = [REQUEST.model_copy(update={"seed": seed}) for seed in (3, 4)]
    assert served.draw_codes(requests).tolist() == ReportToImage(served.bundle).draw_codes(requests).tolist()
    with pytest.raises(GenerationStopped):
        served.draw_codes(requests, lambda: True)
    with pytest.raises(GenerationError, match="differ in their sampling rules"):
        served.draw_codes([REQUEST, REQUEST.model_copy(update={"rules": SamplingRules(temperature=0.5)})])


def test_a_mistake_is_the_same_sentence(served: "ServedReportToImage"):
    wrong = REQUEST.model_copy(update={"modality": "fundus"})
    with pytest.raises(GenerationError) as here:
        ReportToImage(served.bundle).generate(wrong)
    with pytest.raises(GenerationError) as there:
        served.generate(wrong)
    assert str(there.value) == str(here.value)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the workers in /proc")
def test_killed_workers_are_replaced_and_their_images_drawn_again(served: "ServedReportToImage"):
    here = ReportToImage(served.bundle).generate(REQUEST)
    killed: list[int] = []

    def kill() -> None:
        for process in replicas():
            os.kill(process, signal.SIGSTOP)  # so that nobody finishes first
        time.sleep(1)
        for process in replicas():
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    assert len(replicas()) == 2
    killer = threading.Thread(target=kill)
    killer.start()
    time.sleep(0.3)
    there = served.generate(REQUEST)
    killer.join()
    assert len(killed) == 2
    np.testing.assert_array_equal(there.images, here.images)


def test_a_stream_that_is_dropped_frees_its_worker(served: "ServedReportToImage"):
    for _ in range(5):  # more than there are workers
        stream = served.stream(REQUEST)
        next(stream)
        stream.close()
    assert served.generate(REQUEST).images.shape == (3, 16, 16)
