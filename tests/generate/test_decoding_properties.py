"""What holds for any batch: an image hangs on its own prompt, seed and rules, and every code is one that may be drawn."""

import copy
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from arra_med.generate.cpu_backend import CpuBackend
from arra_med.generate.cuda_backend import CudaGraphBackend
from arra_med.generate.decoding import FREE, stream_image_tokens
from arra_med.generate.sampling import SamplingRules, UniformStreams, choose_tokens
from arra_med.generate.transformers_backend import TransformersBackend
from arra_med.tokens.layout import SequenceLayout
from tests.generate.tiny_models import SHORT

BACKENDS = {
    "transformers": TransformersBackend,
    "cpu": CpuBackend,
    "captured step": CudaGraphBackend,
    "cpu-int8": partial(CpuBackend, int8=True),
}
NUM_CODES, NUM_TOKENS, ROUNDING = 24, 12, 1e-3
ANY_RULES = st.builds(
    SamplingRules,
    temperature=st.sampled_from([0.0, 0.05, 0.8, 1.0, 5.0]),
    top_k=st.sampled_from([None, 1, 2, 8, NUM_CODES, 1000]),
    top_p=st.sampled_from([None, 0.0, 1e-6, 0.3, 0.9, 1.0]),
    guidance_scale=st.sampled_from([0.0, 1.0, 1.7, 3.0]),
)
ANY_CODES = st.lists(st.just(FREE) | st.integers(FREE, NUM_CODES - 1), min_size=NUM_TOKENS, max_size=NUM_TOKENS)
same_examples_each_time = settings(max_examples=20, deadline=None, derandomize=True)


class Image(NamedTuple):
    """One of a batch: its report's token ids, its seed and the codes that are to stay."""

    text_ids: list[int]
    seed: int
    kept: list[int]


ANY_IMAGE = st.builds(
    Image,
    text_ids=st.lists(st.integers(4, 19), max_size=12),
    seed=st.integers(0, 2**64 - 1),
    kept=st.just([FREE] * NUM_TOKENS) | ANY_CODES,
)
ANY_BATCH = st.lists(ANY_IMAGE, min_size=1, max_size=5)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest, model: PreTrainedModel, layout: SequenceLayout):
    return BACKENDS[request.param](model, layout)


@pytest.fixture(scope="module")
def exact(model: PreTrainedModel) -> PreTrainedModel:
    return copy.deepcopy(model).double()


def drawn(backend, images: list[Image], rules: SamplingRules) -> torch.Tensor:
    """Codes (B, tokens)."""
    layout = backend.layout
    prompts, seeds = [layout.prompt_ids(image.text_ids) for image in images], [image.seed for image in images]
    kept = torch.tensor([image.kept for image in images]).view(-1, *layout.grid)
    *_, codes = stream_image_tokens(backend.model, layout, prompts, rules, seeds, backend, kept)
    return codes.flatten(1)


@torch.no_grad()
def guided_logits_at(
    model: PreTrainedModel, layout: SequenceLayout, image: Image, codes: torch.Tensor, guidance_scale: float
) -> torch.Tensor:
    """Logits (tokens, V) at each code of an image: whole forward passes, no cache, no batch, no padding."""
    ids = layout.vocabulary.image_ids(codes)[:-1]
    conditional, unconditional = (
        model(torch.cat([torch.tensor(prompt), ids])[None]).logits[0, len(prompt) - 1 :, layout.vocabulary.image_rows]
        for prompt in (layout.prompt_ids(image.text_ids), layout.unconditional_ids)
    )
    return unconditional + guidance_scale * (conditional - unconditional)


def may_be_drawn(logits: torch.Tensor, code: int, rules: SamplingRules) -> bool:
    """Whether the rules allow a code, by counting what is surely more probable; float64 logits (V,)."""
    above = logits > logits[code] + ROUNDING
    most = 1 if rules.temperature == 0 else min(rules.top_k or NUM_CODES, NUM_CODES)
    if above.sum() >= most:
        return False
    if rules.temperature == 0 or rules.top_p is None or not above.any():
        return True
    probabilities = (logits.topk(most).values / rules.temperature).softmax(-1)
    return bool(probabilities[: int(above.sum())].sum() < rules.top_p + ROUNDING)


@same_examples_each_time
@given(images=ANY_BATCH, rules=ANY_RULES, data=st.data())
def test_an_image_is_the_same_in_any_batch_in_any_order_and_again(backend, images, rules, data):
    together = drawn(backend, images, rules)
    order = np.array(data.draw(st.permutations(range(len(images)))))
    cuts = data.draw(st.sets(st.integers(1, len(images))))
    torch.manual_seed(len(cuts))  # numbers that belong to no image must not matter
    for part in np.split(order, sorted(cuts)):
        if len(part):
            assert torch.equal(drawn(backend, [images[number] for number in part], rules), together[part])
    assert torch.equal(drawn(backend, images, rules), together)


@same_examples_each_time
@given(images=ANY_BATCH, rules=ANY_RULES)
def test_every_code_is_legal_and_the_choice_of_its_own_numbers(backend, exact, images, rules):
    layout, found = backend.layout, drawn(backend, images, rules)
    assert found.dtype == torch.int64
    assert 0 <= int(found.min()) <= int(found.max()) < NUM_CODES
    for image, codes in zip(images, found, strict=True):
        kept = torch.tensor(image.kept)
        free = (kept == FREE).nonzero().flatten().tolist()
        assert torch.equal(codes[kept != FREE], kept[kept != FREE])
        if backend.name == "cpu-int8":
            continue  # its logits are others
        logits = guided_logits_at(exact, layout, image, codes, rules.guidance_scale)
        assert all(may_be_drawn(logits[place], int(codes[place]), rules) for place in free)
        uniforms = UniformStreams([image.seed], NUM_CODES).next_steps(NUM_TOKENS)[:, 0]
        assert torch.equal(codes[free], choose_tokens(logits, rules, uniforms)[free])


@same_examples_each_time
@given(images=ANY_BATCH, rules=ANY_RULES, data=st.data())
def test_codes_drawn_anew_behind_the_same_ones_are_the_same(backend, images, rules, data):
    found = drawn(backend, images, rules)
    stays = data.draw(st.lists(st.booleans(), min_size=NUM_TOKENS, max_size=NUM_TOKENS))
    again = [
        image._replace(kept=[code if stay else kept for code, stay, kept in zip(codes, stays, image.kept, strict=True)])
        for image, codes in zip(images, found.tolist(), strict=True)
    ]
    assert torch.equal(drawn(backend, again, rules), found)


def test_other_seeds_give_other_images(backend):
    images = [Image(SHORT, seed, [FREE] * NUM_TOKENS) for seed in range(16)]
    assert len(set(map(tuple, drawn(backend, images, SamplingRules(temperature=5)).tolist()))) == 16
