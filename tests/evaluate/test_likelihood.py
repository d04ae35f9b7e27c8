"""Losses of single images against the model's own logits, and the membership attack on whole bundles."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arra_med.corpus.dataset import TrainingDataset
from arra_med.corpus.tokenize import Corpus
from arra_med.errors import EvaluationError
from arra_med.evaluate import membership_audit
from arra_med.evaluate.held_out import trained_on
from arra_med.evaluate.likelihood import image_losses, plain_examples
from arra_med.evaluate.membership_audit import membership_of_arms, membership_of_seed, membership_over_seeds
from arra_med.models.bundle import ModelBundle
from tests.evaluate.tiny_audit import NUM_HELD_OUT, NUM_TRAIN, TinyAudit, changed_bundle


@pytest.fixture(scope="module")
def bundle(tiny_audit: TinyAudit) -> ModelBundle:
    return ModelBundle.load(tiny_audit.bundle)


@pytest.fixture(scope="module")
def corpus(tiny_audit: TinyAudit) -> Corpus:
    return Corpus.open(tiny_audit.corpus)


@pytest.mark.parametrize("with_report", [True, False])
def test_losses_are_the_models_own(bundle: ModelBundle, corpus: Corpus, with_report: bool) -> None:
    """Against cross entropy over the whole sequence, written out."""
    dataset = plain_examples(bundle, corpus, "train")
    advanced: list[int] = []
    losses = image_losses(bundle, dataset, [5, 0], with_report=with_report, advance=advanced.append)
    assert (losses.dtype, advanced) == (np.float64, [1, 1])
    for loss, index in zip(losses, [5, 0], strict=True):
        text_ids = dataset.draw(index).text_ids if with_report else bundle.layout.dropped_text_ids([])
        codes = corpus.codes(dataset.images[index]).flatten().tolist()
        ids, span = bundle.layout.training_ids(text_ids, codes)
        logits = bundle.model(torch.tensor([ids])).logits[0].double()
        predicted = [span.start + offset for offset in bundle.layout.predicted_offsets]
        surprise = [-logits[place - 1].log_softmax(0)[ids[place]].item() for place in predicted]
        assert len(predicted) == 17  # 16 codes and the end of the image
        assert loss == pytest.approx(np.mean(surprise), abs=1e-4)


def test_wrong_examples_and_a_damaged_model_are_said(
    bundle: ModelBundle, corpus: Corpus, tiny_audit: TinyAudit
) -> None:
    drawing = TrainingDataset(corpus, "train", bundle.layout, bundle.text_tokenizer)
    with pytest.raises(EvaluationError, match="need a dataset made with evaluation=True"):
        image_losses(bundle, drawing)
    damaged = ModelBundle.load(tiny_audit.bundle)
    damaged.model.get_input_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(EvaluationError, match="a loss is not finite with bundle arra"):
        image_losses(damaged, plain_examples(damaged, corpus, "train"), [0])


def fixed_losses(monkeypatch: pytest.MonkeyPatch, advantage: dict[str, float]) -> None:
    """Losses from a fixed order, lower for training images by as much as a bundle is said to remember."""

    def losses(bundle: ModelBundle, dataset: TrainingDataset, indices: list[int], **_: object) -> np.ndarray:
        records = [dataset.corpus.records[dataset.images[index]] for index in indices]
        numbers = np.array([int(record.image_id.split("/")[1]) % 50 / 50 for record in records])
        members = np.array([record.split == "train" for record in records])
        return numbers - advantage[bundle.info.name] * members

    monkeypatch.setattr(membership_audit, "image_losses", losses)


def test_a_planted_memory_is_found_for_each_seed(
    tiny_audit: TinyAudit, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed_losses(monkeypatch, {"arra": 2.0, "plain": 0.0})
    pair = {"finetune": tiny_audit.baseline, "arra": tiny_audit.bundle}
    rows = [membership_of_seed(seed, pair, corpus, baseline="finetune") for seed in (0, 1)]
    told = membership_over_seeds(rows)
    assert [row["seed"] for row in told["per_seed"]] == [0, 1]
    row = told["per_seed"][0]
    assert row["source"] == "nih_cxr14"
    assert row["arms"]["arra"]["likelihood"]["true_positive_rate"]["estimate"] == 1
    assert row["arms"]["arra"]["report_gain"]["auroc"]["estimate"] == 0.5  # the same with and without the report
    assert row["minus_baseline"]["arra"]["likelihood"]["true_positive_rate"]["low"] > 0.5
    assert set(row["minus_baseline"]) == {"arra"}
    over = told["over_seeds"]["arra"]["likelihood"]["auroc"]
    assert over["low"] == over["estimate"] == row["minus_baseline"]["arra"]["likelihood"]["auroc"]["estimate"]
    assert membership_over_seeds(rows[:1])["over_seeds"] == {}


def test_members_can_be_fewer_and_images_left_out(
    bundle: ModelBundle, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed_losses(monkeypatch, {"arra": 0.0})
    trained = trained_on(bundle.info)
    members, others = f"tiny/{NUM_TRAIN - 1}", f"tiny/{NUM_TRAIN}"
    with pytest.raises(EvaluationError, match="needs 100 held-out images and 2 training images, found 99 and 11"):
        membership_of_arms({"a": bundle}, corpus, trained, "nih_cxr14", left_out={members, others})
    told = membership_of_arms({"a": bundle}, corpus, trained, "nih_cxr14", max_members=5)
    attack = told["arms"]["a"]["likelihood"]
    assert (attack["num_members"], attack["num_others"]) == (5, NUM_HELD_OUT)


def test_images_that_differ_in_themselves_are_told_without_a_model(
    bundle: ModelBundle, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed_losses(monkeypatch, {"arra": 0.0})
    trained = trained_on(bundle.info)
    alike = torch.zeros(corpus.grid, dtype=torch.int64)
    real = Corpus.codes

    def codes(self: Corpus, image: int, k: int = 0) -> torch.Tensor:
        return alike if trained(self.records[image]) else real(self, image, k) * 0 + 1 + image % 15

    monkeypatch.setattr(Corpus, "codes", codes)
    told = membership_of_arms({"a": bundle}, corpus, trained, "nih_cxr14")
    assert told["without_a_model"]["estimate"] == 1  # 12 images of one code, 100 of fifteen


def test_wrong_arms_and_sources_are_said(tiny_audit: TinyAudit, corpus: Corpus, tmp_path: Path) -> None:
    bundle = ModelBundle.load(tiny_audit.bundle)
    with pytest.raises(EvaluationError, match="no image of source kermany_pneumonia"):
        membership_of_arms({"a": bundle}, corpus, trained_on(bundle.info), "kermany_pneumonia")
    half = changed_bundle(tiny_audit.baseline, tmp_path / "half", settings={"fold": {"index": 1, "count": 2}})
    with pytest.raises(EvaluationError, match="baseline and arra were trained on different images"):
        membership_of_seed(0, {"baseline": half, "arra": tiny_audit.bundle}, corpus)
    with pytest.raises(EvaluationError, match="no bundle was given"):
        membership_of_seed(0, {}, corpus)
