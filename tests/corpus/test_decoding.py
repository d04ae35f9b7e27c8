import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from arra_med.corpus.decoding import DecodedView, DecodingPool, DecodingSettings, RefusedFile, decode_record, hash_file
from arra_med.corpus.study_rows import decode_png, view_sha256
from arra_med.errors import ImageError, StudySetError
from arra_med.imaging.perceptual_hash import perceptual_hash
from arra_med.imaging.read import StudyView
from arra_med.imaging.rules import ReadingRules
from arra_med.imaging.view import CanonicalView
from tests.corpus.tiny_studies import SPEC

SETTINGS = DecodingSettings(spec=SPEC, time_limit_s=2)
KEY = b"key"


def read(path: Path, spec: CanonicalView, rules: ReadingRules) -> StudyView:
    """Stands for a decoder: what it does, the file's name says."""
    if path.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name.startswith("hang"):
        time.sleep(60)
    if path.name.startswith("greedy"):
        bytearray(2**32)
    if path.name.startswith("blank"):
        raise ImageError("blank", "shows nothing")
    if path.name.startswith("odd"):
        raise ZeroDivisionError("a name from the header")
    view = np.full((1, spec.size_px, spec.size_px), len(path.name), np.uint8)
    return StudyView(view, ("burned_in_declared",) if rules.allow_burned_in else (), {"sharpness": 0.5})


def test_outcomes_name_their_reason_and_hide_what_a_decoder_said() -> None:
    with DecodingPool(SETTINGS, 0, KEY, read) as pool:
        outcomes = dict(pool.decode(["good", "blank", "odd"]))
    view = np.full((1, 16, 16), 4, np.uint8)
    good = outcomes[0]
    assert isinstance(good, DecodedView)
    assert (good.sha256, good.perceptual_hash) == (view_sha256(view), perceptual_hash(view))
    assert (good.flags, good.scores) == ((), {"sharpness": 0.5})
    np.testing.assert_array_equal(decode_png(good.png), view)
    assert outcomes[1] == RefusedFile("blank", "shows nothing", "")
    assert outcomes[2] == RefusedFile("decode_failed", "its decoder failed (ZeroDivisionError)", "")


def test_the_rules_of_the_run_reach_the_decoder() -> None:
    allowed = SETTINGS.model_copy(update={"rules": ReadingRules(allow_burned_in=True)})
    outcome = decode_record("good", allowed, KEY, read)
    assert isinstance(outcome, DecodedView)
    assert outcome.flags == ("burned_in_declared",)


def test_the_hash_of_a_file_depends_on_content_and_key_alone(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (hash_file(str(tmp_path / name), KEY) for name in "abc")
    assert a == b != c
    assert hash_file(str(tmp_path / "a"), b"other") != a
    assert len(a) == 16
    assert hash_file(str(tmp_path), KEY) == hash_file(str(tmp_path / "none"), KEY) == ""


@pytest.mark.slow
def test_a_file_that_ends_its_worker_is_named_and_all_others_are_done() -> None:
    names = ["one", "crash", "three", "blank", "hang", "greedy", "seventeen"]
    settings = SETTINGS.model_copy(update={"memory_limit_gib": 2.0})
    with DecodingPool(settings, 2, KEY, read) as pool:
        outcomes = dict(pool.decode(names))
        again = dict(pool.decode(["after"]))
    assert sorted(outcomes) == list(range(len(names)))
    for index, name in enumerate(names):
        outcome = outcomes[index]
        if name in ("crash", "hang"):
            assert isinstance(outcome, RefusedFile)
            assert outcome.reason == "worker_crashed"
            assert "took more than 2 s or 2 GiB" in outcome.message
        elif name == "greedy":
            assert outcome == RefusedFile("too_large", "needs more than 2 GiB to decode", "")
        elif name == "blank":
            assert outcome == RefusedFile("blank", "shows nothing", "")
        else:
            assert isinstance(outcome, DecodedView)
            assert decode_png(outcome.png)[0, 0, 0] == len(name)
    assert isinstance(again[0], DecodedView)


@pytest.mark.slow
def test_few_files_are_in_flight_and_a_slow_consumer_holds_the_workers_back() -> None:
    taken = 0

    def names() -> object:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield f"file{number}"

    with DecodingPool(SETTINGS, 1, KEY, read) as pool:
        results = pool.decode(names())  # type: ignore[arg-type]
        seen = [next(results)[0] for _ in range(5)]
        time.sleep(0.5)
        assert taken <= 5 + 3
        seen += [position for position, _ in results]
    assert sorted(seen) == list(range(50))


_ORPHANS = """
import os, signal
from arra_med.corpus.decoding import DecodingPool, DecodingSettings
from arra_med.imaging.view import CanonicalView
if __name__ == "__main__":
    with DecodingPool(DecodingSettings(spec=CanonicalView(modality="cxr", size_px=16)), 2, b"key") as pool:
        list(pool.decode(["none", "none", "none", "none"]))
        print(*pool._pool._processes, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(_ORPHANS)
    done = subprocess.run([sys.executable, tmp_path / "killed.py"], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    workers = [int(word) for word in done.stdout.split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(_is_running(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.1)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_that_cannot_start_is_not_blamed_on_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arra_med.corpus.decoding._prepare_worker", os._exit)
    with (
        pytest.raises(StudySetError, match="a worker process for decoding cannot start"),
        DecodingPool(SETTINGS, 1, KEY, read),
    ):
        pass
