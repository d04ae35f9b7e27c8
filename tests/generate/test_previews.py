"""Partial pictures cost a bounded share of the time, and the model does not wait for them."""

import threading

import numpy as np
import pytest
import torch

from arra_med.generate import previews
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle

GREY, PATIENCE_S = 128, 60


def request(num_images: int) -> GenerationRequest:
    return GenerationRequest(report="Effusion.", modality="cxr", num_images=num_images)


class SlowDecoder(ReportToImage):
    """On its clock, which nothing else moves, a picture takes one second and a token row as long as it is told."""

    now = spent = 0.0

    def _decode(self, codes: torch.Tensor) -> np.ndarray:
        self.now += len(codes)
        return super()._decode(codes)

    def _partial_pictures(self, codes: torch.Tensor) -> np.ndarray:
        self.spent += len(codes)
        return super()._partial_pictures(codes)


@pytest.mark.usefixtures("previews_at_once")
@pytest.mark.parametrize("num_images", [1, 4, 8])
def test_all_batches_together_keep_to_the_share(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch, num_images: int):
    session = SlowDecoder(bundle, max_batch_images=num_images)
    monkeypatch.setattr(previews.time, "monotonic", lambda: session.now)
    for _ in range(2):
        for _ in session.stream(request(3 * num_images)):
            session.now += 2 * num_images  # a row; a batch is four
        assert 0.05 * session.now < session.spent <= 0.15 * session.now


@pytest.mark.usefixtures("previews_at_once")
def test_where_not_all_images_can_be_shown_they_are_shown_in_turn(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch):
    session = SlowDecoder(bundle)
    monkeypatch.setattr(previews.time, "monotonic", lambda: session.now)
    shown = []
    for update in session.stream(request(4)):
        session.now += 9  # a row: time for one picture
        if update.result is None:
            shown.append([bool((image != GREY).any()) for image in update.images])
    assert shown[-1].count(True) >= 3
    assert session.spent <= 0.15 * session.now


@pytest.mark.usefixtures("previews_at_once")
def test_a_preview_that_costs_more_than_was_foreseen_ends_with_the_image_at_hand(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
):
    session = SlowDecoder(bundle)
    monkeypatch.setattr(previews.time, "monotonic", lambda: session.now)
    updates = session.stream(request(8))
    next(updates)
    session.now += 10  # enough for one image, not for two
    images = next(updates).images
    assert (images[0] != GREY).any()
    assert (images[1:] == GREY).all()
    assert session.spent == 1


@pytest.mark.usefixtures("previews_at_once")
def test_a_memory_too_full_for_a_preview_is_kept_for_the_images(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch):
    session, tries = ReportToImage(bundle), []

    def full(codes: torch.Tensor) -> np.ndarray:
        tries.append(len(codes))
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(session, "_partial_pictures", full)
    *_, last = session.stream(request(2))
    assert tries == [1]
    np.testing.assert_array_equal(last.images, ReportToImage(bundle).generate(request(2)).images)


class Waiting(ReportToImage):
    """Partial pictures are not ready before they are released."""

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__(bundle)
        self.begun, self.released = threading.Semaphore(0), threading.Event()

    def _partial_pictures(self, codes: torch.Tensor) -> np.ndarray:
        self.begun.release()
        assert self.released.wait(PATIENCE_S)
        return super()._partial_pictures(codes)


def test_tokens_go_on_while_a_preview_is_made_and_the_newest_is_shown_when_it_is_there(bundle: ModelBundle):
    session = Waiting(bundle)
    updates = session.stream(request(1))
    next(updates)
    assert (next(updates).images == GREY).all()
    assert session.begun.acquire(timeout=PATIENCE_S)
    second = next(updates)  # drawn though the preview of the first row is still in work
    assert second.progress == 0.5
    assert (second.images == GREY).all()
    session.released.set()
    updates.gi_frame.f_locals["previews"]._job.pictures.result(PATIENCE_S)
    third = next(updates).images[0]  # of the first row: 4 of 16 lines, then a soft edge
    assert (third[8:] == GREY).all()
    assert (third[:4] != GREY).mean() > 0.9
    *_, last = updates
    np.testing.assert_array_equal(last.images, ReportToImage(bundle).generate(request(1)).images)
