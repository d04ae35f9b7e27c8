"""The compiled decoder against the models' own transformers code."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from arra_med.errors import GenerationError
from arra_med.generate.cpu_backend import CpuBackend, unsupported_reason
from arra_med.generate.decoding import decode_image_tokens, open_backend
from arra_med.generate.sampling import SamplingRules
from arra_med.tokens.layout import SequenceLayout

SHORT, LONG = [5, 6], [7, 8, 9, 10, 11, 12, 13]
RULES = [
    SamplingRules(temperature=0.0, guidance_scale=1.0),
    SamplingRules(temperature=0.0, guidance_scale=2.5),
    SamplingRules(guidance_scale=1.0),
    SamplingRules(top_k=8),
    SamplingRules(guidance_scale=1.7, temperature=0.9, top_p=0.9),
    SamplingRules(top_k=12, top_p=0.6, temperature=1.3),
    SamplingRules(top_p=0.0),
]


def llama(layout: SequenceLayout, **settings) -> LlamaForCausalLM:
    torch.manual_seed(3)
    shape = {
        "vocab_size": layout.vocabulary.vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
    }
    return LlamaForCausalLM(LlamaConfig(**{**shape, **settings})).eval()


@pytest.fixture(params=["grouped", "tied", "bfloat16", "llama3", "wide heads"])
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
        "wide heads": lambda: llama(layout, head_dim=20, num_key_value_heads=1),
    }[request.param]()


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_tokens_equal_those_of_transformers(any_llama: PreTrainedModel, layout: SequenceLayout, rules: SamplingRules):
    prompts = [layout.prompt_ids(ids) for ids in (LONG, SHORT, LONG)]
    expected = decode_image_tokens(any_llama, layout, prompts, rules, [4, 9, 11])
    backend = open_backend("cpu", any_llama, layout)
    found = decode_image_tokens(any_llama, layout, prompts, rules, [4, 9, 11], backend=backend)
    assert torch.equal(found, expected)
    assert len(found.unique()) > 3


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


def test_an_image_depends_on_neither_batch_nor_threads(model: PreTrainedModel, layout: SequenceLayout):
    short, long = layout.prompt_ids(SHORT), layout.prompt_ids(LONG)
    rules, threads = SamplingRules(guidance_scale=1.5), torch.get_num_threads()
    found = []
    try:
        for num_threads in (1, 2, 3):  # of which no more are used than there are processors
            torch.set_num_threads(num_threads)
            backend = open_backend("cpu", model, layout)
            found.append(decode_image_tokens(model, layout, [long, short, short], rules, [3, 7, 8], backend=backend))
            alone = decode_image_tokens(model, layout, [short], rules, [7], backend=backend)
            assert torch.equal(alone[0], found[-1][1])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0][1], found[0][2])


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
    assert "no multiples of 4" in str(unsupported_reason(llama(layout, head_dim=6), layout))
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert "changes with the length" in str(unsupported_reason(llama(layout, rope_parameters=dynamic), layout))


def test_damaged_weights_are_an_error(layout: SequenceLayout):
    model = llama(layout)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    backend = open_backend("cpu", model, layout)
    with pytest.raises(GenerationError, match="not finite in image row 1"):
        decode_image_tokens(model, layout, [layout.prompt_ids(SHORT)], SamplingRules(), [0], backend=backend)
