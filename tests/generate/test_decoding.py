import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PhiConfig,
    PreTrainedModel,
    Qwen3Config,
)

from arra_med.errors import GenerationError
from arra_med.generate.cuda_backend import CudaGraphBackend
from arra_med.generate.decoding import GenerationStopped, decode_image_tokens, open_backend, stream_image_tokens
from arra_med.generate.sampling import SamplingRules, UniformStreams, choose_tokens
from arra_med.tokens.layout import SequenceLayout
from tests.generate.tiny_models import LONG, SHORT

GREEDY = SamplingRules(temperature=0.0, guidance_scale=1.0)


class ImageTokensOnly(LogitsProcessor):
    """What slicing the head does, in the terms of `generate()`."""

    def __init__(self, layout: SequenceLayout) -> None:
        vocabulary = layout.vocabulary
        self._image_ids = slice(vocabulary.first_image_id, vocabulary.end_image_id)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        legal = torch.full_like(scores, -torch.inf)
        legal[:, self._image_ids] = scores[:, self._image_ids]
        return legal


def transformers_greedy(model: PreTrainedModel, layout: SequenceLayout, prompt: list[int], **settings) -> torch.Tensor:
    ids = torch.tensor([prompt])
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=layout.num_image_tokens,
        logits_processor=LogitsProcessorList([ImageTokensOnly(layout)]),
        eos_token_id=None,
        pad_token_id=layout.vocabulary.pad_id,
        **settings,
    )
    return layout.vocabulary.codes(found[0, len(prompt) :]).view(layout.grid)


def reference(
    model: PreTrainedModel, layout: SequenceLayout, prompt: list[int], rules: SamplingRules, seed: int
) -> torch.Tensor:
    """One image, no cache, no batch, no padding, both branches one after the other, full head."""
    vocabulary = layout.vocabulary
    stream = UniformStreams([seed], vocabulary.codebook_size)
    ids: list[int] = []
    start_scale = rules.guidance_scale if rules.guidance_start is None else rules.guidance_start
    for step in range(layout.num_image_tokens):
        share = step / (layout.num_image_tokens - 1)
        branches = [model(torch.tensor([start + ids])).logits[:, -1] for start in (prompt, layout.unconditional_ids)]
        conditional, unconditional = (b[:, vocabulary.first_image_id : vocabulary.end_image_id] for b in branches)
        scale = (1 - share) * start_scale + share * rules.guidance_scale
        logits = unconditional + scale * (conditional - unconditional)
        code = choose_tokens(logits, rules, stream.next_steps(1)[0])
        ids.append(int(vocabulary.image_ids(code)))
    return vocabulary.codes(torch.tensor(ids)).view(layout.grid)


def test_greedy_equals_generate_of_transformers(model: PreTrainedModel, layout: SequenceLayout):
    prompt = layout.prompt_ids(LONG)
    found = decode_image_tokens(model, layout, [prompt], GREEDY, [0])
    assert torch.equal(found[0], transformers_greedy(model, layout, prompt))
    assert len(found.unique()) > 3


@pytest.mark.parametrize("backend", ["transformers", "cpu", "cuda-graph"])
@pytest.mark.parametrize(("start", "end"), [(1.0, 4.0), (4.0, 1.0), (0.0, 1.0), (3.0, 3.0)])
def test_guidance_goes_evenly_from_its_start_to_its_end(
    model: PreTrainedModel, layout: SequenceLayout, backend: str, start: float, end: float
):
    rules = SamplingRules(guidance_start=start, guidance_scale=end)
    prompts = [layout.prompt_ids(ids) for ids in (LONG, SHORT, LONG)]
    opened = CudaGraphBackend(model, layout) if backend == "cuda-graph" else open_backend(backend, model, layout)
    for seeds in ([3], [4, 9, 11]):
        found = decode_image_tokens(model, layout, prompts[: len(seeds)], rules, seeds, backend=opened)
        expected = [reference(model, layout, *one) for one in zip(prompts, [rules] * 3, seeds, strict=False)]
        assert torch.equal(found, torch.stack(expected))
    constant = decode_image_tokens(model, layout, prompts, SamplingRules(guidance_scale=end), [4, 9, 11])
    assert torch.equal(found, constant) == (start == end)


def test_guided_greedy_equals_generate_of_transformers(model: PreTrainedModel, layout: SequenceLayout):
    prompt = layout.prompt_ids(SHORT)
    rules = SamplingRules(temperature=0.0, guidance_scale=2.5)
    negative = torch.tensor([layout.unconditional_ids])
    expected = transformers_greedy(model, layout, prompt, guidance_scale=2.5, negative_prompt_ids=negative)
    assert torch.equal(decode_image_tokens(model, layout, [prompt], rules, [0])[0], expected)
    assert not torch.equal(expected, transformers_greedy(model, layout, prompt))


def test_rows_arrive_one_by_one_and_stay_as_they_are(model: PreTrainedModel, layout: SequenceLayout):
    seen: list[tuple[int, torch.Tensor]] = []
    prompts = [layout.prompt_ids(SHORT), layout.prompt_ids(LONG)]
    codes = decode_image_tokens(
        model, layout, prompts, SamplingRules(), [0, 1], on_row=lambda row, found: seen.append((row, found))
    )
    assert [row for row, _ in seen] == [0, 1, 2]
    for row, found in seen:
        assert torch.equal(found, codes[:, : row + 1])


def test_stopping_ends_after_the_current_row(model: PreTrainedModel, layout: SequenceLayout):
    rows: list[int] = []
    with pytest.raises(GenerationStopped, match="stopped after row 2 of 3"):
        decode_image_tokens(
            model,
            layout,
            [layout.prompt_ids(SHORT)],
            SamplingRules(),
            [0],
            on_row=lambda row, _: rows.append(row),
            should_stop=lambda: len(rows) == 2,
        )
    assert rows == [0, 1]


def test_the_mode_of_the_model_is_restored_also_when_closed_early(model: PreTrainedModel, layout: SequenceLayout):
    model.train()
    try:
        rows = stream_image_tokens(model, layout, [layout.prompt_ids(SHORT)], SamplingRules(), [0])
        next(rows)
        assert not model.training
        rows.close()
        assert model.training
    finally:
        model.eval()


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2),
        Qwen3Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8),
        PhiConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4),  # a head with bias
        GraniteConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, logits_scaling=8.0),
        Gemma2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, head_dim=8, sliding_window=6),
    ],
    ids=lambda config: config.model_type,
)
def test_other_architectures_equal_their_own_forward(config, layout: SequenceLayout):
    torch.manual_seed(0)
    config.vocab_size = layout.vocabulary.vocab_size
    config.initializer_range = 0.2
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 0, 3, 1
    other = AutoModelForCausalLM.from_config(config).eval()
    if other.get_output_embeddings().bias is not None:
        torch.nn.init.normal_(other.get_output_embeddings().bias)
    rules = SamplingRules(temperature=0.5, guidance_scale=2.0)
    prompts = [layout.prompt_ids(LONG), layout.prompt_ids(SHORT)]
    found = decode_image_tokens(other, layout, prompts, rules, [1, 2])
    assert torch.equal(found[0], reference(other, layout, prompts[0], rules, 1))
    assert torch.equal(found[1], reference(other, layout, prompts[1], rules, 2))


def test_bad_requests_are_refused_in_a_sentence(model: PreTrainedModel, layout: SequenceLayout):
    prompt = layout.prompt_ids(SHORT)
    with pytest.raises(GenerationError, match="no prompt was given"):
        decode_image_tokens(model, layout, [], GREEDY, [])
    with pytest.raises(GenerationError, match="1 prompts came with 2 seeds"):
        decode_image_tokens(model, layout, [prompt], GREEDY, [0, 1])
    with pytest.raises(GenerationError, match="prompt of image 1 is empty"):
        decode_image_tokens(model, layout, [prompt, []], GREEDY, [0, 1])
    with pytest.raises(GenerationError, match="need 71 positions, the model has 64: shorten"):
        decode_image_tokens(model, layout, [[5] * 60], GREEDY, [0])
    larger = layout.vocabulary.model_copy(update={"codebook_size": 100})
    with pytest.raises(GenerationError, match="ends at token 120, the model's head at 48"):
        decode_image_tokens(model, layout.model_copy(update={"vocabulary": larger}), [prompt], GREEDY, [0])


def test_numbers_that_are_not_finite_stop_the_image(model: PreTrainedModel, layout: SequenceLayout):
    weight = model.get_output_embeddings().weight
    kept = weight[25].clone()
    with torch.no_grad():
        weight[25] = torch.nan
    try:
        with pytest.raises(GenerationError, match="not finite at image token 1 of 12"):
            decode_image_tokens(model, layout, [layout.prompt_ids(SHORT)], GREEDY, [0])
    finally:
        with torch.no_grad():
            weight[25] = kept
