import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arra_med.errors import GenerationError
from arra_med.generate.checked_images import generate_checked, stream_checked
from arra_med.generate.checking import CheckedImage, CheckTally, ImageVerdict, Try, retry_seed
from arra_med.generate.export import read_provenance, save_images
from arra_med.generate.request import MAX_SEED
from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle


def request(**settings) -> GenerationRequest:
    return GenerationRequest(**{"report": "Effusion.", "modality": "cxr", "num_images": 3, "seed": 5, **settings})


class Refusing:
    """Rejects chosen images by their pixels, and remembers what it was shown."""

    def __init__(self, refused: Sequence[np.ndarray] = (), everything: bool = False) -> None:
        self.refused, self.everything = [image.tobytes() for image in refused], everything
        self.rounds: list[tuple[int, int]] = []
        self.identity = {"reference_sha256": "cd" * 32}

    def judge(self, images: np.ndarray, request: Any, kept: Sequence[np.ndarray] = ()) -> list[ImageVerdict]:
        self.rounds.append((len(images), len(kept)))
        bad = [self.everything or image.tobytes() in self.refused for image in images]
        return [ImageVerdict({"novelty": 2.0 if one else 0.5}, ("novelty",) if one else ()) for one in bad]


def test_the_retry_seed_is_the_documented_hash_and_can_be_asked_for():
    digest = hashlib.sha256(b"arra-med retry 6 1").hexdigest()
    assert retry_seed(6, 1) == int(digest[:8], 16)
    assert retry_seed(6, 0) == 6
    assert retry_seed(6, 2) not in (6, retry_seed(6, 1), retry_seed(7, 2))
    assert all(0 <= retry_seed(seed, 1) <= MAX_SEED for seed in range(200))


def test_only_a_rejected_image_is_drawn_anew_and_its_replacement_can_be_made_again_alone(bundle: ModelBundle):
    session = ReportToImage(bundle)
    plain = session.generate(request())
    check = Refusing([plain.images[1]])
    result = generate_checked(session, request(), check)
    assert check.rounds == [(3, 0), (1, 2)]
    np.testing.assert_array_equal(result.images[[0, 2]], plain.images[[0, 2]])
    alone = session.generate(request(num_images=1, seed=retry_seed(6, 1)))
    np.testing.assert_array_equal(result.images[1], alone.images[0])
    assert torch.equal(result.codes[1], alone.codes[0])
    assert result.seeds == (5, retry_seed(6, 1), 7)
    assert [one.passed for one in result.checked] == [True, True, True]
    assert result.check["request"] == {
        "images": 3,
        "drawn": 4,
        "rejected": 1,
        "replaced": 1,
        "rejection_rate": 0.333333,
        "reasons": {"novelty": 1},
    }


def test_what_no_try_replaces_is_the_image_that_was_asked_for_with_a_mark(bundle: ModelBundle, tmp_path: Path):
    session, check = ReportToImage(bundle), Refusing(everything=True)
    result = generate_checked(session, request(), check, tries=2)
    assert check.rounds == [(3, 0), (3, 0)]
    np.testing.assert_array_equal(result.images, session.generate(request()).images)
    assert result.seeds == (5, 6, 7)
    written = save_images(result, tmp_path)
    told = json.loads(written[1].read_text())
    assert told["seed"] == 5
    assert told["check"]["passed"] is False
    assert told["check"]["reasons"] == ["novelty"]
    assert told["check"]["scores"] == {"novelty": 2.0}
    assert [one["seed"] for one in told["check"]["rejected"]] == [5, retry_seed(5, 1)]
    assert told["check"]["gate"] == check.identity
    assert told["check"]["tries_at_most"] == 2
    assert told["check"]["request"]["rejection_rate"] == 1.0
    assert read_provenance(written[0])["check"] == told["check"]


def test_files_are_named_by_the_seed_that_made_them_and_say_which_was_asked_for(bundle: ModelBundle, tmp_path: Path):
    session = ReportToImage(bundle)
    check = Refusing([session.generate(request()).images[0]])
    written = save_images(generate_checked(session, request(num_images=1), check), tmp_path)
    told = json.loads(written[1].read_text())
    assert written[0].name == f"arra-med_cxr_seed{retry_seed(5, 1):04d}.png"
    assert (told["seed"], told["check"]["asked_seed"], told["check"]["tries"]) == (retry_seed(5, 1), 5, 2)


def test_an_unchecked_image_has_no_check_in_its_record(bundle: ModelBundle, tmp_path: Path):
    written = save_images(ReportToImage(bundle).generate(request(num_images=1)), tmp_path)
    assert "check" not in json.loads(written[1].read_text())


def test_progress_grows_and_only_the_last_update_has_a_result(bundle: ModelBundle):
    updates = list(stream_checked(ReportToImage(bundle), request(), Refusing(everything=True), tries=3))
    progress = [update.progress for update in updates]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert [update.done for update in updates] == [False] * (len(updates) - 1) + [True]
    assert all(update.result is None for update in updates[:-1])


@pytest.mark.parametrize("tries", [0, 17])
def test_a_limit_that_is_none_is_refused(bundle: ModelBundle, tries: int):
    with pytest.raises(GenerationError, match=f"{tries} tries were asked for, 1 to 16 are possible"):
        generate_checked(ReportToImage(bundle), request(), Refusing(), tries)


def test_the_count_in_words():
    bad, good = ImageVerdict({}, ("novelty",)), ImageVerdict({})
    both = ImageVerdict({}, ("novelty", "duplicate"))
    checked = [
        CheckedImage((Try(1, good),)),
        CheckedImage((Try(2, bad), Try(20, good))),
        CheckedImage((Try(3, both), Try(30, bad))),
    ]
    tally = CheckTally.of(checked)
    assert tally.sentence() == "3 images, 2 rejected (2 novelty, 1 duplicate), 1 replaced, 1 kept with a mark"
    assert (tally.num_drawn, tally.rejection_rate) == (5, pytest.approx(2 / 3))
    assert CheckTally.of(checked[:1]).sentence() == "1 image, none rejected"
    assert CheckTally.of([]).rejection_rate == 0
