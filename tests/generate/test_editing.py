"""Kept codes stay, everything marked is ordinary generation, and the order is the model's own likelihood."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arra_med.errors import GenerationError, ImageError
from arra_med.generate.editing import edit_image, file_original, generated_original, stream_edits
from arra_med.generate.export import read_provenance, save_images
from arra_med.generate.likelihood import code_log_likelihoods
from arra_med.generate.marks import EDITED_SOURCE_TYPE
from arra_med.generate.session import DIGITAL_SOURCE_TYPE, GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle

BEFORE = GenerationRequest(report="PA view. There is effusion.", modality="cxr", seed=3)
AFTER = GenerationRequest(report="PA view. There is pneumothorax.", modality="cxr", seed=7, num_images=5)
EVERYTHING = np.ones((4, 4), dtype=bool)
MIDDLE = np.zeros((4, 4), dtype=bool)
MIDDLE[1:3, 1:3] = True


@pytest.fixture(params=["transformers", "cpu"])
def session(request: pytest.FixtureRequest, bundle: ModelBundle) -> ReportToImage:
    return ReportToImage(bundle, max_batch_images=2, backend=request.param)


def test_kept_codes_and_outer_pixels_never_change(session: ReportToImage):
    original = generated_original(session.generate(BEFORE))
    result = edit_image(session, AFTER, original, MIDDLE)
    kept = torch.from_numpy(~MIDDLE)
    outside = np.ones((16, 16), dtype=bool)
    outside[4:12, 4:12] = False
    for codes, image in zip(result.codes, result.images, strict=True):
        assert torch.equal(codes[kept], original.codes[kept])
        np.testing.assert_array_equal(image[outside], original.pixels[outside])
    assert any(not torch.equal(codes, original.codes) for codes in result.codes)
    plain = edit_image(session, AFTER, original, MIDDLE, keep_outside=False)
    assert torch.equal(plain.codes, result.codes)
    np.testing.assert_array_equal(plain.images, session.finish(AFTER, plain.codes).images)


def test_a_region_of_everything_is_ordinary_generation(session: ReportToImage):
    drawn = session.generate(AFTER)
    edited = edit_image(session, AFTER, generated_original(session.generate(BEFORE)), EVERYTHING)
    assert sorted(edited.seeds) == [7, 8, 9, 10, 11]
    for codes, image, seed in zip(edited.codes, edited.images, edited.seeds, strict=True):
        assert torch.equal(codes, drawn.codes[seed - 7])
        np.testing.assert_array_equal(image, drawn.images[seed - 7])
    assert {told["edit"]["num_kept_codes_behind"] for told in edited.details} == {0}
    assert edited.seeds == (7, 8, 9, 10, 11)  # nothing behind to rank by: the order of the seeds


def test_the_order_is_the_likelihood_of_the_kept_codes_behind(session: ReportToImage):
    original = generated_original(session.generate(BEFORE))
    result = edit_image(session, AFTER, original, MIDDLE)
    prompt = session.reader.token_ids(session.prompt(AFTER))
    found = code_log_likelihoods(session.bundle.model, session.bundle.layout, prompt, result.codes)
    behind = [(1, 3), (2, 0), (2, 3), (3, 0), (3, 1), (3, 2), (3, 3)]  # the first new code is (1, 1)
    scores = [sum(float(image[place]) for place in behind) for image in found]
    assert scores == sorted(scores, reverse=True)
    told = [details["edit"] for details in result.details]
    assert [one["log_likelihood_of_kept_codes_behind"] for one in told] == pytest.approx(scores)
    assert [one["rank"] for one in told] == [1, 2, 3, 4, 5]


def test_the_seed_that_drew_the_original_is_not_tried_again(session: ReportToImage):
    drawn = session.generate(AFTER)
    edited = edit_image(session, AFTER, generated_original(drawn, 1), EVERYTHING)
    assert sorted(edited.seeds) == [7, 9, 10, 11, 12]
    other = edit_image(
        session, AFTER.model_copy(update={"report": BEFORE.report}), generated_original(drawn, 1), MIDDLE
    )
    assert sorted(other.seeds) == [7, 8, 9, 10, 11]


def test_a_try_depends_on_its_seed_alone(session: ReportToImage):
    original = generated_original(session.generate(BEFORE))
    many = edit_image(session, AFTER, original, MIDDLE)
    one = edit_image(session, AFTER.model_copy(update={"seed": 9, "num_images": 1}), original, MIDDLE)
    assert torch.equal(one.codes[0], many.codes[many.seeds.index(9)])


def test_a_file_is_edited_as_its_canonical_view_and_its_edit_says_so(session: ReportToImage, tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 32)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a_name.png")
    original = file_original(session, tmp_path / "a_name.png")
    assert original.pixels.shape == (16, 16)
    result = edit_image(session, AFTER, original, MIDDLE)
    assert torch.equal(result.codes[0][torch.from_numpy(~MIDDLE)], original.codes[torch.from_numpy(~MIDDLE)])
    files = save_images(result, tmp_path / "out", name="edit", replace=False)
    told = json.loads(files[1].read_text())
    assert told["edit"]["of"]["kind"] == "file"
    assert told["edit"]["codes_redrawn"] == [5, 6, 9, 10]
    assert told["digital_source_type"] == EDITED_SOURCE_TYPE
    assert "changed in part" in told["notice"]
    assert files[0].stat().st_mode & 0o777 == files[1].stat().st_mode & 0o777 == 0o600
    with Image.open(files[0]) as image:
        assert image.text["Title"] == "Edited chest X-ray image"
        assert EDITED_SOURCE_TYPE in image.text["XML:com.adobe.xmp"]
    assert read_provenance(files[0])["edit"] == told["edit"]
    assert all(b"a_name" not in file.read_bytes() for file in files)
    with pytest.raises(GenerationError, match="written as PNG alone"):
        save_images(result, tmp_path / "out", format="png,dicom")


def test_an_edit_of_a_drawn_image_is_still_a_synthetic_one(session: ReportToImage, tmp_path: Path):
    original = generated_original(session.generate(BEFORE))
    result = edit_image(session, replace_images(AFTER, 2), original, MIDDLE)
    files = save_images(result, tmp_path, format="png,dicom", name="edit", replace=False)
    told = json.loads(files[2].read_text())
    assert told["digital_source_type"] == DIGITAL_SOURCE_TYPE
    assert told["edit"]["of"] == original.told
    assert told["edit"]["of"]["seed"] == 3
    other = edit_image(session, replace_images(AFTER, 2), original, EVERYTHING)
    assert not set(save_images(other, tmp_path, name="edit", replace=False)) & set(files)


def test_progress_grows_to_its_end(session: ReportToImage):
    original = generated_original(session.generate(BEFORE))
    updates = list(stream_edits(session, AFTER, original, MIDDLE))
    shares = [update.progress for update in updates]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [update.result is not None for update in updates].count(True) == 1


def test_bad_input_is_one_sentence(session: ReportToImage, tmp_path: Path):
    original = generated_original(session.generate(BEFORE))
    with pytest.raises(GenerationError, match="nothing is marked"):
        edit_image(session, AFTER, original, np.zeros((4, 4), dtype=bool))
    with pytest.raises(GenerationError, match="edit a picture with the bundle that drew it"):
        edit_image(session, AFTER, original, np.ones((3, 4), dtype=bool))
    with pytest.raises(GenerationError, match="edit a picture with the bundle that drew it"):
        edit_image(session, AFTER, replace(original, codes=original.codes[:3]), MIDDLE)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError):
        file_original(session, tmp_path / "text.png")


def replace_images(request: GenerationRequest, num_images: int) -> GenerationRequest:
    return request.model_copy(update={"num_images": num_images})
