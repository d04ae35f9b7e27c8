import os
import signal
from pathlib import Path

import numpy as np
import pytest

from arra_med.corpus.decoding import DecodedView, DecodingPool, RefusedFile
from arra_med.corpus.study_set import decode_png, view_sha256
from arra_med.errors import ImageError, StudySetError
from arra_med.imaging.view import CanonicalView
from tests.corpus.tiny_studies import SPEC


def load(path: Path, spec: CanonicalView) -> np.ndarray:
    """Stands for a decoder: what it does, the file's name says."""
    if path.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name.startswith("blank"):
        raise ImageError("blank", "shows nothing")
    if path.name.startswith("odd"):
        raise ZeroDivisionError("a name from the header")
    if path.name.startswith("huge"):
        raise MemoryError
    return np.full((1, spec.size_px, spec.size_px), len(path.name), np.uint8)


def test_outcomes_name_their_reason_and_hide_what_a_decoder_said() -> None:
    with DecodingPool(SPEC, 0, load) as pool:
        outcomes = dict(pool.decode(["good", "blank", "odd", "huge"]))
    good = outcomes[0]
    assert isinstance(good, DecodedView)
    assert good.sha256 == view_sha256(np.full((1, 16, 16), 4, np.uint8))
    np.testing.assert_array_equal(decode_png(good.png), np.full((1, 16, 16), 4, np.uint8))
    assert outcomes[1] == RefusedFile("blank", "shows nothing")
    assert outcomes[2] == RefusedFile("decode_failed", "its decoder failed (ZeroDivisionError)")
    assert outcomes[3] == RefusedFile("too_large", "needs more than 8 GiB to decode")


@pytest.mark.slow
def test_a_file_that_kills_its_worker_is_named_and_all_others_are_done() -> None:
    names = ["one", "crash", "three", "blank", "seventeen"]
    with DecodingPool(SPEC, 1, load) as pool:
        outcomes = dict(pool.decode(names))
        again = dict(pool.decode(["after"]))
    assert sorted(outcomes) == list(range(len(names)))
    for index, name in enumerate(names):
        outcome = outcomes[index]
        if name.startswith("crash"):
            assert isinstance(outcome, RefusedFile)
            assert outcome.reason == "worker_crashed"
        elif name == "blank":
            assert outcome == RefusedFile("blank", "shows nothing")
        else:
            assert isinstance(outcome, DecodedView)
            assert decode_png(outcome.png)[0, 0, 0] == len(name)
    assert isinstance(again[0], DecodedView)


def test_a_worker_that_cannot_start_is_not_blamed_on_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arra_med.corpus.decoding._prepare_worker", os._exit)
    with pytest.raises(StudySetError, match="a worker process for decoding cannot start"), DecodingPool(SPEC, 1, load):
        pass
