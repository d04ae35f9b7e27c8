"""The compiled decoder against the models' own transformers code."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    PreTrainedModel,
)

from arra_med.errors import GenerationError
from arra_med.generate import cpu_arithmetic, cpu_kernels
from arra_med.generate.cpu_backend import CpuBackend, unsupported_reason
from arra_med.generate.cuda_backend import CudaGraphBackend
from arra_med.generate.decoding import FREE, decode_image_tokens, open_backend, stream_image_tokens
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.transformers_backend import TransformersBackend
from arra_med.tokens.layout import SequenceLayout
from tests.generate.tiny_models import LONG, RULES, SHORT, SIZES, random_model


def llama(layout: SequenceLayout, **settings) -> PreTrainedModel:
    return random_model(LlamaConfig(**{**SIZES, **settings}), layout, seed=3)


@pytest.fixture(params=["grouped", "tied", "bfloat16", "llama3", "wide heads", "odd sizes", "many heads"])
def any_llama(request: pytest.FixtureRequest, model: PreTrainedModel, layout: SequenceLayout) -> PreTrainedModel:
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    return {
        "grouped": lambda: model,
        "tied": lambda: llama(layout, tie_word_embeddings=True),
        "bfloat16": lambda: llama(layout).bfloat16().float(),
        "llama3": lambda: llama(layout, rope_parameters=scaled),
        "wide heads": lambda: llama(layout, head_dim=40, num_key_value_heads=1),
        "odd sizes": lambda: llama(layout, hidden_size=36, intermediate_size=37, head_dim=6),
        "many heads": lambda: llama(layout, hidden_size=42, num_attention_heads=14, head_dim=4, num_key_value_heads=2),
    }[request.param]()


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_tokens_equal_those_of_transformers(any_llama: PreTrainedModel, layout: SequenceLayout, rules: SamplingRules):
    prompts = [layout.prompt_ids(ids) for ids in (LONG, SHORT, LONG)]
    expected = decode_image_tokens(any_llama, layout, prompts, rules, [4, 9, 11])
    backend = open_backend("cpu", any_llama, layout)
    found = decode_image_tokens(any_llama, layout, prompts, rules, [4, 9, 11], backend=backend)
    assert torch.equal(found, expected)
    assert len(found.unique()) > 3


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_a_window_of_drafts_gives_the_tokens_of_one_pass_a_token(
    any_llama: PreTrainedModel, layout: SequenceLayout, rules: SamplingRules
):
    prompt, (height, width) = layout.prompt_ids(LONG), layout.grid
    torch.manual_seed(1)
    noise = -torch.empty(height, width, 1, layout.vocabulary.codebook_size).exponential_().log()
    kept = torch.full((height, 1, width), FREE)
    kept[1, 0, 1:3] = torch.tensor([20, 3])
    for forced in (None, kept):
        drawn, passes = [], []
        for window in (1, 3, 8):
            rows = TransformersBackend(any_llama, layout, window).start([prompt], rules)
            codes = [rows.next_row(noise[row], None if forced is None else forced[row]) for row in range(height)]
            drawn.append(torch.cat(codes))
            passes.append(rows.passes)
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])
        assert passes[0] == height * width >= passes[1]
        if forced is not None:
            assert drawn[0][1, 1:3].tolist() == [20, 3]
            assert passes[0] > passes[1]  # two drafts that are known to be right
    assert rows.finite.all()


def test_several_images_and_caches_that_forget_are_read_token_by_token(layout: SequenceLayout):
    prompt, noise = layout.prompt_ids(SHORT), torch.zeros(layout.grid[1], 2, layout.vocabulary.codebook_size)
    rows = TransformersBackend(llama(layout), layout).start([prompt, prompt], SamplingRules())
    rows.next_row(noise)
    assert rows.passes == layout.grid[1]
    shape = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}
    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    forgets = Gemma3ForCausalLM(
        Gemma3TextConfig(vocab_size=layout.vocabulary.vocab_size, num_key_value_heads=4, **settings, **shape)
    ).eval()
    rows = TransformersBackend(forgets, layout).start([prompt], SamplingRules())
    rows.next_row(noise[:, :1])
    assert rows.passes == layout.grid[1]


def test_logits_equal_a_forward_pass_in_float64(any_llama: PreTrainedModel, layout: SequenceLayout):
    rules, prompt = SamplingRules(guidance_scale=2.0), layout.prompt_ids(LONG)
    backend = CpuBackend(any_llama, layout)
    rows = backend.start([prompt], rules)
    codes = [rows.next_row(torch.zeros(4, 1, 24)), rows.next_row(torch.zeros(4, 1, 24))]
    ids = layout.vocabulary.image_ids(torch.cat(codes, dim=1)[:, :-1])  # the last one has not been read
    image_rows = layout.vocabulary.image_rows
    exact = any_llama.double()
    try:
        for row, start in enumerate((prompt, layout.unconditional_ids)):
            with torch.no_grad():
                logits = exact(torch.cat([torch.tensor([start]), ids], dim=1)).logits[0, -1, image_rows]
            found = rows._state.logits[row, : layout.vocabulary.codebook_size]
            np.testing.assert_allclose(found, logits.numpy(), atol=1e-4)
    finally:
        any_llama.float()


def test_the_number_of_threads_changes_no_image(model: PreTrainedModel, layout: SequenceLayout):
    prompts = [layout.prompt_ids(ids) for ids in (LONG, SHORT, SHORT)]
    rules, threads = SamplingRules(guidance_scale=1.5), torch.get_num_threads()
    found = []
    try:
        for num_threads in (1, 2, 3):  # of which no more are used than there are processors
            torch.set_num_threads(num_threads)
            backend = open_backend("cpu", model, layout)
            found.append(decode_image_tokens(model, layout, prompts, rules, [3, 7, 8], backend=backend))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_int8_stays_close_and_legal(layout: SequenceLayout):
    model = llama(layout, initializer_range=0.1)
    prompt, rules = layout.prompt_ids(LONG), SamplingRules(guidance_scale=1.0)
    logits = {}
    for name in ("cpu", "cpu-int8"):
        rows = open_backend(name, model, layout).start([prompt], rules)
        rows.next_row(torch.zeros(1, 1, 24))  # the first code comes from the prompt, which transformers reads
        codes = rows.next_row(torch.zeros(1, 1, 24))
        assert 0 <= int(codes) < 24
        logits[name] = torch.from_numpy(rows._state.logits[0, :24].copy())
    change = (logits["cpu-int8"] - logits["cpu"]).abs().max()
    assert 0 < change < 0.05 * logits["cpu"].std()


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (torch.full((1, 4, 3), FREE), "shape .1, 4, 3., required is .1, 3, 4."),
        (torch.full((1, 3, 4), 24), "lie between 24 and 24, the codebook has 0 to 23"),
        (torch.full((1, 3, 4), -2), "lie between -2 and -2"),
    ],
)
def test_kept_codes_that_do_not_fit_are_one_sentence(
    kept: torch.Tensor, sentence: str, model: PreTrainedModel, layout: SequenceLayout
):
    with pytest.raises(GenerationError, match=sentence):
        next(stream_image_tokens(model, layout, [layout.prompt_ids(SHORT)], SamplingRules(), [0], kept=kept))


def test_auto_takes_the_compiled_decoder_where_it_can(model: PreTrainedModel, layout: SequenceLayout):
    other = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_embd=16, n_layer=1, n_head=2, n_positions=64))
    assert open_backend("auto", model, layout).name == "cpu"
    assert open_backend("auto", other, layout).name == "transformers"
    assert open_backend("transformers", model, layout).name == "transformers"


def test_what_it_cannot_decode_is_one_sentence(model: PreTrainedModel, layout: SequenceLayout):
    with pytest.raises(GenerationError, match="backend 'gpu' is unknown: choose one of auto"):
        open_backend("gpu", model, layout)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_embd=16, n_layer=1, n_head=2, n_positions=64))
    with pytest.raises(GenerationError, match="LlamaForCausalLM alone, this is GPT2LMHeadModel: choose the transf"):
        open_backend("cpu", other, layout)
    assert "biases" in str(unsupported_reason(llama(layout, attention_bias=True), layout))
    odd = llama(layout)
    odd.model.layers[0].self_attn.head_dim = 7
    assert "an odd size (7)" in str(unsupported_reason(odd, layout))
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert "changes with the length" in str(unsupported_reason(llama(layout, rope_parameters=dynamic), layout))


def test_damaged_weights_are_an_error(layout: SequenceLayout):
    model = llama(layout)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    backend = open_backend("cpu", model, layout)
    with pytest.raises(GenerationError, match="not finite at image token 1 of 12"):
        decode_image_tokens(model, layout, [layout.prompt_ids(SHORT)], SamplingRules(), [0], backend=backend)


BACKENDS = {
    "window 1": lambda model, layout: TransformersBackend(model, layout, 1),
    "window 8": lambda model, layout: TransformersBackend(model, layout, 8),
    "cpu": CpuBackend,
    "captured step": CudaGraphBackend,
}


@pytest.mark.parametrize("name", BACKENDS)
def test_the_first_token_without_numbers_is_named_though_later_ones_have_them(name: str, layout: SequenceLayout):
    model, prompt = llama(layout), layout.prompt_ids(SHORT)
    backend = BACKENDS[name](model, layout)
    place = len(prompt) + 4  # the fifth token is read there, and the logits of the sixth follow

    def damage(_: object, __: object, given: dict[str, torch.Tensor], output: object) -> None:
        output.last_hidden_state[given["position_ids"] == place] = torch.nan  # none of it is kept in the cache

    if name == "cpu":
        backend.weights.cos[place] = np.nan
    else:
        model.base_model.register_forward_hook(damage, with_kwargs=True)
    rules = SamplingRules(guidance_scale=1.0)
    with pytest.raises(GenerationError, match=r"image token 6 of 12 \(row 2, column 2\): its weights are damaged"):
        decode_image_tokens(model, layout, [prompt], rules, [0], backend=backend)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_guidance_that_overflows_is_an_error(name: str, layout: SequenceLayout):
    model, prompt, rules = llama(layout), layout.prompt_ids(SHORT), SamplingRules(guidance_scale=3e38)
    with pytest.raises(GenerationError, match=r"image token 1 of 12 \(row 1, column 1\): .* use a guidance below 100"):
        decode_image_tokens(model, layout, [prompt, prompt], rules, [0, 1], backend=BACKENDS[name](model, layout))


def test_kernels_compiled_with_other_arithmetic_are_not_taken_from_disk():
    # Numba knows what it kept by the content of the kernels' file, into which the other file's functions are inlined.
    found = hashlib.sha256(Path(cpu_arithmetic.__file__).read_bytes()).hexdigest()
    assert found == cpu_kernels.ARITHMETIC_SHA256, "write the hash of cpu_arithmetic.py into cpu_kernels.py"
