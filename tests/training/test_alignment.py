"""Every variant of the alignment against numpy on hidden states that `transformers` hands out, and whom gradients reach."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from arra_med.errors import ConfigError
from arra_med.models.presets import LlamaShape, random_llama
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.training.alignment import AlignmentConfig, TeacherShape, decoder_blocks, resample_patches
from arra_med.training.settings import TrainConfig
from arra_med.training.task import TrainingTask

VOCABULARY = ImageVocabulary(
    bos_id=0, pad_id=1, boi_id=2, eoi_id=3, rep_id=4, first_image_id=20, codebook_size=8, vocab_size=32
)
LAYOUT = SequenceLayout(vocabulary=VOCABULARY, grid=(2, 3), max_text_tokens=8)
SHAPE = LlamaShape(hidden_size=16, num_layers=4, num_heads=2, intermediate_size=24)
WIDTH, PATCH_GRID = 5, (4, 2)


def config(**settings: Any) -> AlignmentConfig:
    return AlignmentConfig(teacher_features="unused", projector_width=7, **settings)


def task(*alignments: AlignmentConfig) -> TrainingTask:
    model = random_llama(SHAPE, VOCABULARY.vocab_size, 64, seed=0)
    teachers = [TeacherShape(WIDTH, PATCH_GRID if block.feature == "patch" else None) for block in alignments]
    return TrainingTask(model, LAYOUT, z_loss_weight=1e-5, alignments=alignments, teachers=teachers)


def batch(*features: torch.Tensor) -> dict[str, Any]:
    rows = [LAYOUT.training_ids(text, [1, 2, 3, 4, 5, 6]) for text in ([10, 11, 12], [13])]
    longest = max(len(ids) for ids, _ in rows)
    return {
        "input_ids": torch.tensor([ids + [VOCABULARY.pad_id] * (longest - len(ids)) for ids, _ in rows]),
        "image_start": torch.tensor([span.start for _, span in rows]),
        "teacher_features": list(features),
    }


def teacher_features(feature: str, seed: int = 1) -> torch.Tensor:
    shape = (2, PATCH_GRID[0] * PATCH_GRID[1], WIDTH) if feature == "patch" else (2, WIDTH)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def interpolation(size: int, wanted: int) -> np.ndarray:
    """Weights (wanted, size) of linear interpolation between cell centres, widened where the grid gets coarser."""
    scale = size / wanted
    support = max(scale, 1.0)
    weights = np.zeros((wanted, size))
    for row in range(wanted):
        centre = (row + 0.5) * scale
        weights[row] = np.maximum(0.0, 1.0 - np.abs(np.arange(size) + 0.5 - centre) / support)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def numpy_alignment(
    subject: TrainingTask, settings: AlignmentConfig, blocks: list[int], inputs: dict[str, Any]
) -> float:
    """The loss written out: hidden states of `transformers`, positions counted by hand, perceptron, similarity."""
    with torch.no_grad():
        out = subject.language_model.model(inputs["input_ids"], output_hidden_states=True)
    per_layer = []
    for number, block in enumerate(blocks):
        hidden = out.hidden_states[block].double().numpy()
        layers = [
            layer for layer in subject.alignments[0].projectors[number].layers if isinstance(layer, torch.nn.Linear)
        ]
        distances = []
        for row, first in enumerate(inputs["image_start"].tolist()):
            teacher = inputs["teacher_features"][0][row].double().numpy()
            if settings.feature == "patch":
                down, across = interpolation(4, 2), interpolation(2, 3)
                teacher = np.einsum("ai,bj,ijd->abd", down, across, teacher.reshape(*PATCH_GRID, WIDTH)).reshape(
                    6, WIDTH
                )
            for k in range(1 if settings.target == "rep" else 6):
                value = hidden[row, first - 1 + k]
                for depth, layer in enumerate(layers):
                    if depth:
                        value = value / (1 + np.exp(-value))
                    value = layer.weight.detach().double().numpy() @ value + layer.bias.detach().double().numpy()
                target = teacher[k] if settings.feature == "patch" else teacher
                if settings.loss == "mse":
                    distances.append(((value - target) ** 2).mean())
                else:
                    distances.append(1 - value @ target / np.linalg.norm(value) / np.linalg.norm(target))
        per_layer.append(np.mean(distances))
    return float(np.mean(per_layer))


CASES = [
    (target, feature, layers, loss, depth)
    for target, feature, layers, loss, depth in product(
        ("hybnext", "rep"), ("cls", "patch"), ((2,), (0.25, 3)), ("cosine", "mse"), (1, 2, 3)
    )
    if (target, feature) != ("rep", "patch")
]


@pytest.mark.parametrize(("target", "feature", "layers", "loss", "depth"), CASES)
def test_every_variant_equals_the_numpy_reference(
    target: Any, feature: Any, layers: tuple[float, ...], loss: Any, depth: int
) -> None:
    layer = layers if len(layers) > 1 else layers[0]
    settings = config(target=target, feature=feature, layer=layer, loss=loss, projector_depth=depth)
    subject, inputs = task(settings), batch(teacher_features(feature))
    with torch.no_grad():
        found = subject(**inputs)["alignment_loss"]
    blocks = [1, 3] if len(layers) > 1 else [2]
    assert float(found) == pytest.approx(numpy_alignment(subject, settings, blocks, inputs), rel=2e-5)


@pytest.mark.parametrize(
    ("grid", "wanted"), [((4, 2), (2, 3)), ((2, 2), (4, 4)), ((7, 7), (16, 16)), ((14, 14), (8, 8))]
)
def test_patches_are_resampled_as_two_products_of_triangles(grid: tuple[int, int], wanted: tuple[int, int]) -> None:
    features = torch.randn(2, grid[0] * grid[1], 3, dtype=torch.float64)
    cells = features.numpy().reshape(2, *grid, 3)
    down, across = interpolation(grid[0], wanted[0]), interpolation(grid[1], wanted[1])
    expected = np.einsum("ai,bj,nijd->nabd", down, across, cells).reshape(2, -1, 3)
    np.testing.assert_allclose(resample_patches(features, grid, wanted).numpy(), expected, atol=2e-6)


def test_each_place_meets_its_own_patch() -> None:
    features = torch.arange(6.0).reshape(1, 6, 1)
    assert resample_patches(features, (2, 3), (2, 3)).flatten().tolist() == [0, 1, 2, 3, 4, 5]
    two_by_one = resample_patches(features, (2, 3), (2, 1)).flatten().tolist()
    assert two_by_one == pytest.approx([1.0, 4.0])  # the mean of each row


def touched_blocks(subject: TrainingTask) -> list[bool]:
    blocks = decoder_blocks(subject.language_model)
    return [any(p.grad is not None and bool(p.grad.any()) for p in block.parameters()) for block in blocks]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [(1, [True, False, False, False]), ((1, 3), [True, True, True, False]), (4, [True] * 4)],
)
@pytest.mark.parametrize("feature", ["cls", "patch"])
def test_gradients_reach_the_blocks_up_to_the_deepest_layer_the_projectors_and_nothing_else(
    layer: Any, expected: list[bool], feature: Any
) -> None:
    subject = task(config(layer=layer, feature=feature))
    features = teacher_features(feature).requires_grad_()
    subject(**batch(features))["alignment_loss"].backward()
    assert touched_blocks(subject) == expected
    assert all(p.grad is not None and bool(p.grad.any()) for p in subject.alignments.parameters())
    assert subject.language_model.get_input_embeddings().weight.grad is not None
    assert subject.language_model.model.norm.weight.grad is None
    assert features.grad is None or feature == "patch" or bool(features.grad.any())  # nobody trains the teacher


def test_only_places_that_predict_image_tokens_are_aligned() -> None:
    subject, inputs = task(config(layer=4)), batch(teacher_features("cls"))
    taken: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        taken.append(output)

    decoder_blocks(subject.language_model)[3].register_forward_hook(keep)
    subject(**inputs)["alignment_loss"].backward()
    reached = taken[0].grad.abs().sum(-1) > 0
    # bos 10 11 12 boi rep | image 6 | eoi: places 5 to 10 predict the image; one text token: 3 to 8
    assert [row.nonzero().flatten().tolist() for row in reached] == [[5, 6, 7, 8, 9, 10], [3, 4, 5, 6, 7, 8]]


def test_two_teachers_add_up_with_their_own_weights_and_projectors() -> None:
    first, second = config(layer=1, weight=0.5), config(layer=(2, 4), weight=2.0, feature="patch", seed=9)
    features = teacher_features("cls"), teacher_features("patch", seed=2)
    both, alone = task(first, second), [task(first), task(second)]
    with torch.no_grad():
        losses = both(**batch(*features))
        single = [float(one(**batch(f))["alignment_loss"]) for one, f in zip(alone, features, strict=True)]
        plain = float(task()(**batch())["loss"])
    assert [float(losses["alignment_loss_1"]), float(losses["alignment_loss_2"])] == pytest.approx(single)
    assert float(losses["loss"]) == pytest.approx(plain + 0.5 * single[0] + 2.0 * single[1], rel=1e-6)


def test_several_layers_have_projectors_that_differ() -> None:
    first, second = task(config(layer=(1, 2))).alignments[0].projectors
    assert not torch.equal(first.layers[0].weight, second.layers[0].weight)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (1, 0.5), (3, 1.5), (4, 2.0), (9, 2.0), (10, 0.0), (99, 0.0)])
def test_lambda_rises_and_ends(step: int, expected: float) -> None:
    assert config(weight=2.0, warmup_steps=4, end_step=10).weight_at(step) == pytest.approx(expected)


def test_lambda_is_constant_unless_asked() -> None:
    assert [config(weight=0.7).weight_at(step) for step in (0, 5, 10**6)] == [0.7] * 3


def test_outside_its_schedule_the_alignment_is_reported_and_moves_nothing() -> None:
    subject, inputs = task(config(layer=2, end_step=5)), batch(teacher_features("cls"))
    subject.step = 5
    losses = subject(**inputs)
    losses["loss"].backward()
    plain = task()
    expected = plain(**batch())["loss"]
    expected.backward()
    assert torch.equal(losses["loss"], expected)
    assert float(losses["alignment_loss"]) > 0
    assert all(p.grad is None for p in subject.alignments.parameters())
    for ours, its in zip(subject.language_model.parameters(), plain.language_model.parameters(), strict=True):
        assert torch.equal(ours.grad, its.grad)


def test_what_cannot_be_aligned_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"alignment.layer is 5; the model has blocks 1 to 4"):
        task(config(layer=(1, 5)))
    with pytest.raises(ConfigError, match="names block 2 twice"):
        task(config(layer=(2, 0.5)))
    with pytest.raises(ConfigError, match="features have no grid"):
        TrainingTask(
            random_llama(SHAPE, 32, 64, seed=0),
            LAYOUT,
            z_loss_weight=0.0,
            alignments=[config(feature="patch")],
            teachers=[TeacherShape(WIDTH)],
        )
    with pytest.raises(ValidationError, match="<REP> token has no place in the image"):
        config(feature="patch", target="rep")
    with pytest.raises(ValidationError, match="names no block"):
        config(layer=())
    with pytest.raises(ValidationError, match="end_step 3 must come after the 3 warmup_steps"):
        config(warmup_steps=3, end_step=3)


def test_one_block_of_settings_is_a_list_of_one() -> None:
    values = {"name": "x", "corpus": "c", "image_tokenizer": "t", "steps": 1}
    block = {"teacher_features": "f.parquet"}
    assert TrainConfig(**values).alignment == TrainConfig(**values, alignment=None).alignment == ()
    one, listed = TrainConfig(**values, alignment=block), TrainConfig(**values, alignment=[block])
    assert one == listed
    assert len(one.alignment) == 1
