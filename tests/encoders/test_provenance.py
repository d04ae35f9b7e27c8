"""The guard between judges and what they judge: by content, counted, and honest about what is not recorded."""

import json
from pathlib import Path

import pytest
import torch

from arra_med.encoders import load_encoder
from arra_med.encoders.autoencoder import AutoencoderShape, ConvolutionalAutoencoder, save_autoencoder
from arra_med.encoders.provenance import (
    EncoderProvenance,
    Exposure,
    ImageContent,
    ImageContents,
    encoder_exposure,
    read_provenance,
    require_disjoint,
    write_provenance,
)
from arra_med.errors import EncoderError, OverlapError
from arra_med.imaging.view import CanonicalView

SPEC = CanonicalView(modality="cxr", size_px=16)


def contents(*names: str, spec: CanonicalView = SPEC, key_id: str | None = "key") -> ImageContents:
    rows = sorted(ImageContent(f"view {name}", f"file {name}", f"label {name}") for name in names)
    return ImageContents(tuple(rows), spec, key_id)


def exposure(name: str, images: ImageContents | None, *weights: str) -> Exposure:
    return Exposure(name, frozenset(weights or {f"weights of {name}"}), images)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A tiny autoencoder with its provenance."""
    folder = tmp_path / "encoder"
    torch.manual_seed(0)
    save_autoencoder(ConvolutionalAutoencoder(AutoencoderShape(size_px=16, channels=1, widths=(4, 2))), folder)
    images = contents("a", "b")
    provenance = EncoderProvenance(
        name="the judge",
        kind="autoencoder",
        weights_sha256=load_encoder(str(folder)).fingerprint,
        initialisation_sha256=("start",),
        initialisation="random",
        label_source="none",
        study_set_sha256="set",
        spec=SPEC,
        key_id="key",
        num_images=2,
        images_sha256=images.sha256,
        config={},
        steps=1,
        seed=0,
        device="cpu",
        versions={},
    )
    write_provenance(folder, provenance, images)
    return folder


def test_a_description_comes_back_as_it_was_written(trained: Path) -> None:
    provenance, images = read_provenance(trained)
    assert provenance.name == "the judge"
    assert images == contents("b", "a")
    encoder = load_encoder(str(trained))
    assert encoder.name == "the judge"
    for model in (str(trained), f"autoencoder:{trained}"):
        found = encoder_exposure(encoder, model)
        assert found == Exposure("the judge", frozenset({encoder.fingerprint, "start"}), images)


def test_a_changed_list_or_other_weights_are_refused(trained: Path) -> None:
    encoder = load_encoder(str(trained))
    described = json.loads((trained / "provenance.json").read_text())
    (trained / "provenance.json").write_text(json.dumps({**described, "weights_sha256": "f" * 64}))
    with pytest.raises(EncoderError, match=r"encoder: its provenance.json describes weights ffffffffffff, loaded were"):
        encoder_exposure(encoder, str(trained))
    listed = (trained / "training_images.csv").read_text()
    (trained / "training_images.csv").write_text(listed.replace("view a", "view c"))
    with pytest.raises(EncoderError, match=r"training_images.csv: is not the list that provenance.json describes"):
        read_provenance(trained)
    (trained / "training_images.csv").unlink()
    with pytest.raises(EncoderError, match=r"provenance.json or training_images.csv is missing or damaged"):
        read_provenance(trained)
    (trained / "provenance.json").write_text(json.dumps({**described, "format_version": 9}))
    with pytest.raises(EncoderError, match=r"has format version 9, this program reads 1"):
        read_provenance(trained)


def test_disjoint_exposures_pass() -> None:
    judge, teacher = exposure("judge", contents("a", "b")), exposure("teacher", contents("c"))
    assert require_disjoint(judge, [teacher, exposure("corpus", contents("d"))]) == []


def test_overlapping_images_are_counted_whatever_the_names_are() -> None:
    judge, corpus = exposure("judge", contents("a", "b", "c")), exposure("corpus", contents("b", "c", "d", "e"))
    with pytest.raises(OverlapError, match=r"judge cannot judge: 2 of its 3 training images are among the 4 of corpus"):
        require_disjoint(judge, [exposure("teacher", contents("x")), corpus])


def test_the_same_file_at_another_size_is_found() -> None:
    large = contents("a", spec=CanonicalView(modality="cxr", size_px=32))
    with pytest.raises(OverlapError, match=r"1 of its 2 training images"):
        require_disjoint(exposure("judge", contents("a", "b")), [exposure("teacher", large)])


def test_the_same_pixels_under_another_key_are_found() -> None:
    with pytest.raises(OverlapError, match=r"1 of its 2 training images"):
        require_disjoint(
            exposure("judge", contents("a", "b")), [exposure("teacher", contents("a", key_id="another key"))]
        )


def test_another_picture_of_a_patient_with_the_same_labels_is_found() -> None:
    again = ImageContents((ImageContent("another view", "another file", "label a"),), SPEC, "key")
    with pytest.raises(OverlapError, match=r"1 other training images carry a patient and labels of teacher"):
        require_disjoint(exposure("judge", contents("a", "b")), [exposure("teacher", again)])


def test_images_that_cannot_be_compared_are_an_error() -> None:
    other = contents("a", spec=CanonicalView(modality="cxr", size_px=32), key_id="another key")
    with pytest.raises(OverlapError, match=r"cannot be compared with those of teacher: neither the canonical view nor"):
        require_disjoint(exposure("judge", contents("b")), [exposure("teacher", other)])


def test_a_shared_initialisation_is_found() -> None:
    judge = exposure("judge", contents("a"), "own weights", "imagenet")
    with pytest.raises(OverlapError, match=r"weights or initialisation imagenet of judge and teacher are the same"):
        require_disjoint(judge, [exposure("teacher", contents("b"), "imagenet")])


def test_published_weights_are_compared_by_weights_alone_and_that_is_said() -> None:
    told = require_disjoint(exposure("lite2", None), [exposure("teacher", contents("a"))])
    assert told == ["what images lite2 learned from is not recorded: lite2 and teacher were compared by weights alone"]
