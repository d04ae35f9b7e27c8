"""Encoder training at toy size: the folder each kind leaves behind, exact resume, provenance, errors."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from pydantic import ValidationError

from arra_med.corpus.contents import corpus_exposure
from arra_med.corpus.features import extract_features
from arra_med.corpus.study_set import StudySet
from arra_med.encoders import load_encoder
from arra_med.encoders.finding_classifier import load_finding_classifier
from arra_med.encoders.provenance import encoder_exposure, read_provenance, require_disjoint
from arra_med.errors import ConfigError, OverlapError, StudySetError, TrainingError
from arra_med.training.classifier_task import masked_finding_loss
from arra_med.training.clip_task import ClipTask
from arra_med.training.encoder_run import headline_words, train_encoder
from arra_med.training.encoder_settings import EncoderTrainConfig
from arra_med.training.encoder_task import EncoderTask
from tests.training.conftest import SIZE_PX, TinyData

CLIP = {
    "kind": "clip",
    "image": {"kind": "vit", "patch_px": 8, "width": 32, "num_layers": 1, "head_width": 16},
    "text": {"vocab_size": 400, "context_tokens": 16, "width": 16, "num_layers": 1, "num_heads": 2},
    "embed_dim": 12,
}
CLASSIFIER = {"kind": "classifier", "model": "test_resnet", "findings": ["effusion"]}
AUTOENCODER = {"kind": "autoencoder", "widths": [8, 4]}
KINDS = {"clip": CLIP, "classifier": CLASSIFIER, "autoencoder": AUTOENCODER}


def settings(data: TinyData, encoder: dict[str, object], **changes: object) -> EncoderTrainConfig:
    values = {
        "name": "tiny (stand-in)",
        "studies": data.studies,
        "encoder": encoder,
        "absent_if_unlisted": ["nih_cxr14"],
        "fold": {"index": 0, "count": 2},
        "steps": 4,
        "batch_size": 6,
        "warmup_steps": 1,
        "checkpoint_every": 2,
        "device": "cpu",
    }
    return EncoderTrainConfig.model_validate({**values, **changes})


@pytest.fixture(scope="module", params=list(KINDS))
def finished(request: pytest.FixtureRequest, tiny_data: TinyData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training of each kind."""
    out = tmp_path_factory.mktemp(request.param)
    train_encoder(settings(tiny_data, KINDS[request.param]), out)
    return out


def test_the_folder_is_an_encoder_that_says_its_name_and_what_it_learned_from(
    finished: Path, tiny_data: TinyData
) -> None:
    encoder = load_encoder(str(finished / "encoder"))
    assert encoder.name == "tiny (stand-in)"
    features = encoder(torch.rand(2, 1, SIZE_PX, SIZE_PX))
    assert features.mean.shape[0] == 2
    provenance, images = read_provenance(finished / "encoder")
    assert provenance.weights_sha256 == encoder.fingerprint
    assert provenance.num_images == len(images.rows) > 0
    assert provenance.config["fold"] == {"index": 0, "count": 2}
    assert "studies" not in provenance.config
    assert all(row.label_hash for row in images.rows) == (provenance.kind != "autoencoder")
    told = json.loads((finished / "held_out.json").read_text())
    assert told["held_out"]["validation"]["num_images"] == 8
    assert told["num_training_images"] + told["held_out"]["other_folds"]["num_images"] == 16
    with pytest.raises(OverlapError, match=rf"{provenance.num_images} of its {provenance.num_images} training images"):
        require_disjoint(encoder_exposure(encoder, str(finished / "encoder")), [_corpus(tiny_data)])


def _corpus(data: TinyData) -> object:
    return corpus_exposure("the corpus", StudySet.open(data.studies))


def test_a_finished_run_is_kept_as_it_is(finished: Path, tiny_data: TinyData) -> None:
    kind = read_provenance(finished / "encoder")[0].kind
    before = load_encoder(str(finished / "encoder")).fingerprint
    train_encoder(settings(tiny_data, KINDS[kind]), finished)
    assert load_encoder(str(finished / "encoder")).fingerprint == before


def test_teacher_and_judge_of_different_folds_are_disjoint(tiny_data: TinyData, tmp_path: Path) -> None:
    exposures = []
    for index, seed in ((0, 0), (1, 1), (1, 0)):
        out = tmp_path / f"fold{index}seed{seed}"
        train_encoder(settings(tiny_data, AUTOENCODER, steps=1, fold={"index": index, "count": 2}, seed=seed), out)
        encoder = load_encoder(str(out / "encoder"))
        exposures.append(encoder_exposure(encoder, f"autoencoder:{out / 'encoder'}"))
    teacher, judge, same_start = exposures
    assert require_disjoint(judge, [teacher]) == []
    with pytest.raises(
        OverlapError, match=r"weights or initialisation \w+ of judge and tiny \(stand-in\) are the same"
    ):
        require_disjoint(same_start, [teacher])


def test_a_clip_gives_teacher_features_of_every_kind(tiny_data: TinyData, tmp_path: Path) -> None:
    train_encoder(settings(tiny_data, CLIP, steps=1), tmp_path)
    info = extract_features(
        tiny_data.studies,
        str(tmp_path / "encoder"),
        tmp_path / "features.parquet",
        kinds=("cls", "mean", "patch", "trunk-cls"),
        progress=False,
    )
    assert info.shapes == {"cls": (12,), "mean": (32,), "patch": (16, 32), "trunk-cls": (32,)}
    assert info.name == "tiny (stand-in)"


def test_a_clip_opens_in_open_clip_with_both_towers(tiny_data: TinyData, tmp_path: Path) -> None:
    train_encoder(settings(tiny_data, CLIP, steps=1), tmp_path)
    place = f"local-dir:{tmp_path / 'encoder'}"
    model, _ = open_clip.create_model_from_pretrained(place)
    tokens = open_clip.get_tokenizer(place)(["Pleural effusion.", "No finding."])
    assert tokens.shape == (2, 16)
    encoder = load_encoder(str(tmp_path / "encoder"))
    view = torch.rand(1, 1, SIZE_PX, SIZE_PX)
    with torch.no_grad():
        embedding = model.eval().encode_image(encoder.preprocess(view))
        texts = model.encode_text(tokens)
    torch.testing.assert_close(encoder(view).get("cls"), embedding)
    assert texts.shape == (2, 12)
    assert not torch.equal(texts[0], texts[1])


def test_a_convolutional_clip_starts_from_an_encoder(tiny_data: TinyData, tmp_path: Path) -> None:
    train_encoder(settings(tiny_data, CLASSIFIER, steps=1), tmp_path / "start")
    start = str(tmp_path / "start/encoder")
    image = {"kind": "timm", "model": "test_resnet", "start_from": start}
    train_encoder(settings(tiny_data, {**CLIP, "image": image}, steps=1), tmp_path / "clip")
    provenance, _ = read_provenance(tmp_path / "clip/encoder")
    assert provenance.initialisation == "tiny (stand-in)"
    assert load_encoder(start).fingerprint in provenance.initialisation_sha256
    assert load_encoder(str(tmp_path / "clip/encoder")).width("cls") == 12
    other = {**CLASSIFIER, "model": "test_efficientnet", "start_from": start}
    with pytest.raises(TrainingError, match=r"is another network than encoder.model: name the same network in both"):
        train_encoder(settings(tiny_data, other), tmp_path / "other")


def test_a_classifier_s_head_judges(tiny_data: TinyData, tmp_path: Path) -> None:
    measures = train_encoder(settings(tiny_data, CLASSIFIER, steps=60, learning_rate=3e-3), tmp_path)
    rows = measures["held_out"]["validation"]["auroc"]["nih_cxr14"]
    assert (rows[0]["num_positive"], rows[0]["num_negative"], rows[0]["verdict"]) == (4, 4, "not estimable")
    assert rows[0]["auroc"] > 0.9
    classifier = load_finding_classifier(str(tmp_path / "encoder"))
    assert classifier.findings == ("effusion",)
    views = torch.rand(2, 1, SIZE_PX, SIZE_PX)
    logits = classifier.logits(views)
    features = classifier.encoder(views)
    torch.testing.assert_close(logits, classifier.encoder.network.get_classifier()(features.mean))


@pytest.mark.parametrize("kind", list(KINDS))
def test_resume_equals_an_uninterrupted_run(
    kind: str, tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(tiny_data, KINDS[kind])
    train_encoder(chosen, tmp_path / "whole")
    backward = torch.Tensor.backward
    calls = 0

    def interrupted(self: torch.Tensor, *args: object, **kwargs: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        backward(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(chosen, tmp_path / "resumed")
    train_encoder(chosen, tmp_path / "resumed")
    (weights,) = (tmp_path / "whole/encoder").glob("*.safetensors")
    assert weights.read_bytes() == (tmp_path / "resumed/encoder" / weights.name).read_bytes()
    first, second = (json.loads((tmp_path / run / "held_out.json").read_text()) for run in ("whole", "resumed"))
    assert first == second


def test_the_unknown_has_no_part_in_the_loss() -> None:
    logits = torch.tensor([[0.0, 3.0], [2.0, 0.0]], requires_grad=True)
    loss = masked_finding_loss(logits, torch.tensor([[1.0, float("nan")], [float("nan"), 0.0]]))
    assert float(loss.detach()) == pytest.approx(0.6931, abs=1e-4)  # log 2, twice
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == logits.grad[1, 0] == 0
    assert float(masked_finding_loss(logits.detach(), torch.full((2, 2), float("nan")))) == 0


def test_training_lowers_the_error_of_an_autoencoder(tiny_data: TinyData, tmp_path: Path) -> None:
    runs = {
        steps: train_encoder(settings(tiny_data, AUTOENCODER, steps=steps, learning_rate=5e-3), tmp_path / f"{steps}")
        for steps in (1, 80)
    }
    before, after = (runs[steps]["held_out"]["validation"]["headline"]["psnr_db"] for steps in (1, 80))
    assert after > before + 3


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ClipTask.loss

    def broken(self: EncoderTask, *args: object) -> torch.Tensor:
        return own(self, *args) * float("nan")

    monkeypatch.setattr(ClipTask, "loss", broken)
    with pytest.raises(TrainingError, match=r"loss or gradient is not finite at step 0; the last checkpoint in"):
        train_encoder(settings(tiny_data, CLIP), tmp_path)


def test_a_checkpoint_of_other_settings_or_images_is_refused(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_encoder(settings(tiny_data, AUTOENCODER, steps=1), tmp_path)
    with pytest.raises(TrainingError, match=r"belongs to a training with other settings; give another --out"):
        train_encoder(settings(tiny_data, AUTOENCODER, steps=2), tmp_path)
    monkeypatch.setattr(StudySet, "duplicates", {"tiny/2": "tiny/0", "tiny/3": "tiny/1", "tiny/4": "tiny/5"})
    monkeypatch.setattr("arra_med.corpus.folds.fold_of", lambda *_: 0)
    with pytest.raises(TrainingError, match=r"belongs to a training on other images than .* holds now"):
        train_encoder(settings(tiny_data, AUTOENCODER, steps=1), tmp_path)


def test_a_finding_that_is_never_seen_is_an_error(tiny_data: TinyData, tmp_path: Path) -> None:
    wrong = {**CLASSIFIER, "findings": ["effusion", "hernia"]}
    with pytest.raises(
        StudySetError, match=r"present and as absent: hernia \(0 present, 0 absent\); change encoder.find"
    ):
        train_encoder(settings(tiny_data, wrong), tmp_path)


def test_an_unknown_network_is_an_error(tiny_data: TinyData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"encoder.model 'no_such_net' cannot be built \(Unknown model"):
        train_encoder(settings(tiny_data, {**CLASSIFIER, "model": "no_such_net"}), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": {"index": 2, "count": 2}}, r"index must be below count: 2 folds are numbered 0 to 1"),
        (
            {"encoder": {**CLASSIFIER, "start_from": "efficientnet_lite2"}},
            r"EfficientNet-Lite2 is kept for judging alone",
        ),
        (
            {"encoder": {**CLIP, "image": {"kind": "timm", "model": "a", "start_from": "efficientnet_lite2"}}},
            r"EfficientNet-Lite2 is kept for judging alone",
        ),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, object], message: str, tiny_data: TinyData) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(tiny_data, **{"encoder": CLIP, **changes})


def test_what_cannot_be_estimated_says_so() -> None:
    assert headline_words({"macro_auroc": None, "psnr_db": 20.0}) == "macro_auroc not estimable, psnr_db 20"
