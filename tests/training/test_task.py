"""Positions, gradients and the tap."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from arra_med.errors import ConfigError
from arra_med.models.presets import PRESETS, random_llama
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.training.alignment import AlignmentConfig, TeacherShape, decoder_blocks, resolve_layer
from arra_med.training.losses import alignment_loss
from arra_med.training.task import TrainingTask

VOCABULARY = ImageVocabulary(bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=20, codebook_size=8, vocab_size=32)
LAYOUT = SequenceLayout(vocabulary=VOCABULARY, grid=(2, 2), max_text_tokens=8)
ALIGNMENT = AlignmentConfig(teacher_features="unused", layer=1, projector_width=8)


def task(*alignments: AlignmentConfig) -> TrainingTask:
    model = random_llama(PRESETS["tiny"], VOCABULARY.vocab_size, 64, seed=0)
    return TrainingTask(
        model, LAYOUT, z_loss_weight=1e-5, alignments=alignments, teachers=[TeacherShape(5)] * len(alignments)
    )


def batch(*texts: list[int], pad_to: int = 0) -> dict[str, torch.Tensor]:
    sequences = [LAYOUT.training_ids(text, [1, 2, 3, 4]) for text in texts]
    longest = max(pad_to, *(len(ids) for ids, _ in sequences))
    padded = [ids + [VOCABULARY.pad_id] * (longest - len(ids)) for ids, _ in sequences]
    return {
        "input_ids": torch.tensor(padded),
        "image_start": torch.tensor([span.start for _, span in sequences]),
        "teacher_features": [torch.randn(len(texts), 5, generator=torch.Generator().manual_seed(1))],
    }


def test_losses_equal_those_of_spans_written_out_by_hand() -> None:
    subject, inputs = task(ALIGNMENT), batch([10, 11, 12])
    # bos 10 11 12 boi | 21 22 23 24 | eoi : positions 4..7 predict the image, 8 predicts eoi
    with torch.no_grad():
        losses = subject(**inputs)
        out = subject.language_model(inputs["input_ids"], output_hidden_states=True)
        projected = subject.alignments[0].projectors[0](out.hidden_states[1][:, 4:8])
        expected = F.cross_entropy(out.logits[0, 4:9], inputs["input_ids"][0, 5:10])
    assert float(losses["image_token_loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(losses["alignment_loss"]) == pytest.approx(
        float(alignment_loss(projected, inputs["teacher_features"][0])), rel=1e-5
    )
    total = losses["image_token_loss"] + 1e-5 * losses["z_loss"] + losses["alignment_loss"]
    assert float(losses["loss"]) == pytest.approx(float(total), rel=1e-6)


def test_a_replaced_context_token_is_seen_and_its_place_still_predicts_the_right_one() -> None:
    subject, inputs = task(), batch([10, 11, 12])
    context_ids = inputs["input_ids"].clone()
    context_ids[0, 6] = 27  # the image's second token, 22
    with torch.no_grad():
        losses = subject(**inputs, context_ids=context_ids)
        logits = subject.language_model(context_ids).logits
        expected = F.cross_entropy(logits[0, 4:9], inputs["input_ids"][0, 5:10])
        clean = subject(**inputs)
    assert float(losses["image_token_loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(losses["image_token_loss"]) != pytest.approx(float(clean["image_token_loss"]), rel=1e-5)


def test_padding_changes_no_loss() -> None:
    subject = task(ALIGNMENT)
    with torch.no_grad():
        short, long = subject(**batch([10, 11], [12])), subject(**batch([10, 11], [12], pad_to=30))
    assert {k: float(v) for k, v in short.items()} == pytest.approx({k: float(v) for k, v in long.items()}, rel=1e-6)


def test_gradients_of_the_alignment_reach_the_blocks_up_to_the_layer_and_the_projector_alone() -> None:
    subject = task(ALIGNMENT)
    subject(**batch([10]))["alignment_loss"].backward()
    blocks = decoder_blocks(subject.language_model)
    touched = [any(p.grad is not None and bool(p.grad.any()) for p in block.parameters()) for block in blocks]
    assert touched == [True, False]
    assert all(p.grad is not None for p in subject.alignments.parameters())


def test_only_the_aligned_blocks_output_is_kept_and_only_during_the_step() -> None:
    subject = task(ALIGNMENT)
    subject(**batch([10]))
    assert subject._tap._taken == {}
    subject.language_model(batch([10])["input_ids"])  # outside a step nothing is taken
    assert subject._tap._taken == {}


def test_a_projector_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(3)
    task()
    plain = torch.rand(1)
    torch.manual_seed(3)
    task(ALIGNMENT)
    assert torch.equal(plain, torch.rand(1))


def test_an_aligned_batch_without_features_is_an_error() -> None:
    inputs: dict[str, Any] = batch([10])
    del inputs["teacher_features"]
    with pytest.raises(ValueError, match="without teacher features"):
        task(ALIGNMENT)(**inputs)


@pytest.mark.parametrize(("layer", "expected"), [(1, 1), (6, 6), (0.5, 3), (0.01, 1), (0.99, 6)])
def test_layer_by_number_or_fraction(layer: int | float, expected: int) -> None:
    assert resolve_layer(layer, 6) == expected


@pytest.mark.parametrize("layer", [0, 7, -1, 1.5])
def test_a_layer_outside_the_model_is_refused(layer: int | float) -> None:
    with pytest.raises(ConfigError, match="the model has blocks 1 to 6"):
        resolve_layer(layer, 6)
