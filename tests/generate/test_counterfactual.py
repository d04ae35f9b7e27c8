import json
from pathlib import Path

import numpy as np
import pytest

from arra_med.errors import GenerationError, ReportError
from arra_med.generate.counterfactual import (
    MIN_SCALE,
    SAME_PROMPT,
    compared,
    counterfactual,
    difference_picture,
    save_counterfactual,
    stream_counterfactual,
)
from arra_med.generate.export import read_provenance
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle

REQUEST = GenerationRequest(report="PA view. There is effusion in Mr Zzyzx.", modality="cxr", seed=3, num_images=2)
EDITED = "PA view. There is pneumothorax."


@pytest.fixture(scope="module")
def session(bundle: ModelBundle) -> ReportToImage:
    return ReportToImage(bundle, backend="transformers")


def test_each_of_the_pair_is_its_reports_ordinary_image(session: ReportToImage):
    pairs = counterfactual(session, REQUEST, EDITED)
    alone = session.generate(REQUEST.model_copy(update={"report": EDITED}))
    np.testing.assert_array_equal(pairs.before.images, session.generate(REQUEST).images)
    np.testing.assert_array_equal(pairs.after.images, alone.images)
    assert pairs.after.request.rules == REQUEST.rules
    changed = (pairs.before.codes != pairs.after.codes).flatten(1).float().mean(dim=1)
    assert pairs.tokens_changed == pytest.approx(changed.numpy())
    assert (pairs.tokens_changed > 0).all()
    expected = pairs.after.images.astype(int) - pairs.before.images.astype(int)
    np.testing.assert_array_equal(pairs.differences, expected)
    assert pairs.notices == ()


def test_the_same_prompt_gives_an_empty_map_and_says_so(session: ReportToImage):
    pairs = counterfactual(session, REQUEST, "PA view.  There is effusion in Mr Zzyzx.")
    assert not pairs.differences.any()
    assert not pairs.tokens_changed.any()
    assert pairs.notices == (SAME_PROMPT,)
    assert pairs.scale == MIN_SCALE
    picture = difference_picture(pairs.differences[0], pairs.scale)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1
    assert picture.min() > 240


def test_the_colours_are_symmetric_and_end_at_the_scale():
    picture = difference_picture(np.array([[-100, -50, 0, 50, 100, 200]]), 100)[0].astype(int)
    red, blue = picture[:, 0], picture[:, 2]
    assert blue[0] > red[0]
    assert red[4] > blue[4]
    assert abs(red[2] - blue[2]) <= 2
    np.testing.assert_array_equal(picture[4], picture[5])


def test_colours_differ_by_their_mean(session: ReportToImage):
    from dataclasses import replace

    result = session.generate(REQUEST)
    black = np.zeros((2, 16, 16, 3), np.uint8)
    coloured = black.copy()
    coloured[..., 0], coloured[..., 1] = 90, 30
    pairs = compared(replace(result, images=coloured), replace(result, images=black))
    assert (pairs.differences == -40).all()


def test_the_files_say_what_they_compare_and_hold_no_report(session: ReportToImage, tmp_path: Path):
    pairs = counterfactual(session, REQUEST, EDITED)
    files = save_counterfactual(pairs, tmp_path)
    names = [file.name for file in files]
    assert names[:2] == ["arra-med_cxr_before_seed0003.png", "arra-med_cxr_before_seed0003.json"]
    assert names[-2:] == ["arra-med_cxr_pair_seed0004.png", "arra-med_cxr_pair_seed0004.json"]
    told = json.loads(files[-1].read_text())
    assert told["pair"] == pairs.told(1)
    assert told["pair"]["scale"][0] == -told["pair"]["scale"][1]
    assert "shows no cause" in told["pair"]["limit"]
    assert told["synthetic"]
    assert read_provenance(files[-2])["pair"] == told["pair"]
    assert all(b"Zzyzx" not in file.read_bytes() for file in files)
    kept = save_counterfactual(pairs, tmp_path / "kept", include_report=True)
    assert json.loads(kept[1].read_text())["report"] == REQUEST.report


def test_progress_grows_and_a_mistake_is_told_before_anything_is_drawn(session: ReportToImage):
    shares = [update.progress for update in stream_counterfactual(session, REQUEST, EDITED)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert 0.5 in shares
    for report, kind in ((" ", ReportError), ("INDICATION: cough.", ReportError), ("x" * 1_000_001, GenerationError)):
        with pytest.raises(kind):
            next(stream_counterfactual(session, REQUEST, report))
