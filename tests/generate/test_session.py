import copy
import dataclasses
import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arra_med.errors import GenerationError, ReportError
from arra_med.generate import session
from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.session import GenerationRequest, GenerationUpdate, ReportToImage, SamplingRules
from arra_med.models.bundle import ModelBundle

GREY = 128


def request(**settings) -> GenerationRequest:
    return GenerationRequest(
        **{"report": "PA view. Effusion.", "modality": "cxr", "num_images": 3, "seed": 5, **settings}
    )


def test_the_result_is_what_decoding_and_the_image_tokenizer_give(bundle: ModelBundle):
    result = ReportToImage(bundle).generate(request())
    assert result.prompt.text == "PA view chest X-ray image, Effusion."
    ids = bundle.layout.prompt_ids(bundle.layout.text_ids(bundle.text_tokenizer, result.prompt.text))
    codes = decode_image_tokens(bundle.model, bundle.layout, [ids] * 3, SamplingRules(), [5, 6, 7])
    assert torch.equal(result.codes, codes)
    for image, image_codes in zip(result.images, codes, strict=True):
        decoded = bundle.image_tokenizer.decode(image_codes[None])[0, 0].numpy()
        np.testing.assert_array_equal(image, np.rint(decoded * 255))


def test_an_image_depends_on_its_own_seed_only(bundle: ModelBundle):
    together = ReportToImage(bundle).generate(request())
    in_batches = ReportToImage(bundle, max_batch_images=2).generate(request())
    alone = ReportToImage(bundle).generate(request(num_images=1, seed=7))
    np.testing.assert_array_equal(together.images, in_batches.images)
    np.testing.assert_array_equal(together.images[2], alone.images[0])
    assert (together.images[0] != together.images[1]).any()


@pytest.mark.usefixtures("previews_at_once")
def test_updates_grow_from_grey_to_the_result(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "SHARE", float("inf"))
    updates = list(ReportToImage(bundle, max_batch_images=2).stream(request()))
    assert len(updates) == 1 + 2 * 4 + 1
    assert [update.progress for update in updates] == sorted(update.progress for update in updates)
    first, last = updates[0], updates[-1]
    assert (first.progress, first.done, first.prompt.text) == (0.0, False, "PA view chest X-ray image, Effusion.")
    assert (first.images == GREY).all()
    assert (last.progress, last.done) == (1.0, True)
    np.testing.assert_array_equal(last.result.images, last.images)
    assert not any(update.done for update in updates[:-1])
    halfway = updates[2]  # two of four rows of the first batch: 8 of 16 lines, then a soft edge of 4
    assert (halfway.images[:2, 12:] == GREY).all()
    assert (halfway.images[:2, :8] != GREY).mean() > 0.9
    assert (halfway.images[2] == GREY).all()


def test_partial_pictures_change_no_final_pixel_and_can_be_left_out(bundle: ModelBundle):
    updates = list(ReportToImage(bundle).stream(request(), partial_images=False))
    assert all((update.images == GREY).all() for update in updates[:4])
    np.testing.assert_array_equal(updates[-1].images, ReportToImage(bundle).generate(request()).images)


def full_for_more_than(bundle: ModelBundle, num_images: int, error: Callable[[], Exception]) -> ReportToImage:
    """A session whose model has memory for so many images at once; guided, so two rows each."""
    model = copy.deepcopy(bundle.model)

    def refuse(_: Any, __: Any, given: dict[str, Any]) -> None:
        if len(given["input_ids"]) > 2 * num_images and given["input_ids"].shape[1] == 1:  # after the first row's start
            raise error()

    model.base_model.register_forward_pre_hook(refuse, with_kwargs=True)
    return ReportToImage(dataclasses.replace(bundle, model=model), max_batch_images=8, backend="transformers")


FULL = {
    "torch on a CPU": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "NumPy": MemoryError,
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_full_memory_halves_the_batch_says_so_and_changes_no_image(
    bundle: ModelBundle, error: Callable[[], Exception]
):
    expected = ReportToImage(bundle, backend="transformers").generate(request(num_images=7))
    updates = list(full_for_more_than(bundle, 2, error).stream(request(num_images=7)))
    progress = [update.progress for update in updates]
    assert progress == sorted(progress)
    result = updates[-1].result
    np.testing.assert_array_equal(result.images, expected.images)
    assert torch.equal(result.codes, expected.codes)
    assert result.seeds == tuple(range(5, 12))
    assert result.prompt.notices[len(expected.prompt.notices) :] == (
        "The memory is full: going on with 3 images at a time instead of 7.",
        "The memory is full: going on with 1 images at a time instead of 3.",
    )
    finished = [update.finished for update in updates if update.finished is not None]
    np.testing.assert_array_equal(np.concatenate([part.images for part in finished]), expected.images)
    assert [part.seed(0) for part in finished] == [5, 6, 7, 8, 9, 10, 11]


def test_a_memory_too_small_for_one_image_is_told_and_other_faults_are_not_taken_for_it(bundle: ModelBundle):
    with pytest.raises(GenerationError, match="the memory is full with one image at a time: close other programs"):
        full_for_more_than(bundle, 0, MemoryError).generate(request())
    with pytest.raises(RuntimeError, match="shapes"):
        full_for_more_than(bundle, 0, lambda: RuntimeError("shapes")).generate(request())


def test_colour_images_keep_their_channels_last(bundle: ModelBundle):
    class Painted:
        def decode(self, codes: torch.Tensor) -> torch.Tensor:
            return torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(len(codes), 3, 16, 16)

    view = bundle.spec.model_copy(update={"modality": "fundus"})
    info = bundle.info.model_copy(update={"canonical_view": view})
    fundus = dataclasses.replace(bundle, info=info, image_tokenizer=Painted())
    result = ReportToImage(fundus).generate(request(report="Left eye. Glaucoma.", modality="fundus", num_images=1))
    assert result.images.shape == (1, 16, 16, 3)
    assert result.images[0, 0, 0].tolist() == [255, 128, 0]


def test_closing_a_stream_ends_it(bundle: ModelBundle):
    updates = ReportToImage(bundle).stream(request())
    assert isinstance(next(updates), GenerationUpdate)
    next(updates)
    updates.close()
    assert not bundle.model.training


def test_a_report_beyond_the_context_is_cut_with_a_notice(bundle: ModelBundle):
    long = "Effusion is seen. " * 3 + "Normal normal normal normal normal normal normal normal normal normal. " * 3
    prompt = ReportToImage(bundle).prompt(request(report=long))
    assert len(bundle.layout.text_ids(bundle.text_tokenizer, prompt.text)) <= bundle.layout.max_text_tokens
    assert any("longer than the model reads" in notice for notice in prompt.notices)


def test_a_rare_finding_is_told_before_and_with_the_result(bundle: ModelBundle):
    result = ReportToImage(bundle).generate(request(report="Pneumothorax.", num_images=1))
    assert "Only 12 training images were labelled with pneumothorax" in result.prompt.notices[-1]


def test_provenance_says_what_made_the_images_but_not_the_report(bundle: ModelBundle):
    provenance = ReportToImage(bundle).generate(request(num_images=1)).provenance
    assert provenance["bundle"]["sha256"] == bundle.fingerprint
    assert provenance["rules"]["guidance_scale"] == 3.0
    assert provenance["synthetic"] is True
    assert "ffusion" not in str(provenance)


def test_hashes_of_report_and_prompt_can_be_tried_out_with_the_key_alone(
    bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def hashes() -> dict[str, str]:
        result = ReportToImage(bundle).generate(request(num_images=1))
        texts = {"report_keyed_hash": "PA view. Effusion.", "prompt_keyed_hash": result.prompt.text}
        assert not any(hashlib.sha256(text.encode()).hexdigest() in str(result.provenance) for text in texts.values())
        key = bytes.fromhex(Path(os.environ["ARRA_MED_KEY_FILE"]).read_text())
        for name, text in texts.items():
            found = hmac.new(key, f"text {text}".encode(), hashlib.sha256).hexdigest()
            assert result.provenance[name] == found
        return {name: result.provenance[name] for name in texts}

    first = hashes()
    assert hashes() == first
    monkeypatch.setenv("ARRA_MED_KEY_FILE", str(tmp_path / "another.key"))
    assert not set(hashes().values()) & set(first.values())


def test_what_cannot_be_made_is_refused(bundle: ModelBundle):
    session = ReportToImage(bundle)
    with pytest.raises(GenerationError, match="fundus images were asked for, the bundle tiny-cxr makes cxr images"):
        session.generate(request(modality="fundus", report="Glaucoma."))
    with pytest.raises(ReportError, match="report is empty"):
        next(session.stream(request(report="  ")))
    with pytest.raises(GenerationError, match="max_batch_images is 0"):
        ReportToImage(bundle, max_batch_images=0)
