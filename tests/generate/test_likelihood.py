import pytest
import torch
from transformers import PreTrainedModel

from arra_med.errors import GenerationError
from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.likelihood import code_log_likelihoods
from arra_med.generate.sampling import SamplingRules
from arra_med.tokens.layout import SequenceLayout


def test_it_equals_a_forward_pass_in_float64_over_the_codes_alone(model: PreTrainedModel, layout: SequenceLayout):
    prompt = layout.prompt_ids([5, 6, 9])
    codes = torch.randint(24, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    found = code_log_likelihoods(model, layout, prompt, codes)
    try:
        model.double()
        for image, its_found in zip(codes, found, strict=True):
            ids = torch.tensor([[*prompt, *(20 + image.flatten()).tolist()]])
            logits = model(ids).logits[0, len(prompt) - 1 : -1, 20:44]
            expected = logits.log_softmax(dim=-1)[torch.arange(12), image.flatten()]
            torch.testing.assert_close(its_found.flatten(), expected, atol=1e-4, rtol=0)
    finally:
        model.float()


def test_the_likeliest_codes_in_turn_are_what_decoding_takes_at_temperature_0(
    model: PreTrainedModel, layout: SequenceLayout
):
    prompt, rules = layout.prompt_ids([7, 8]), SamplingRules(temperature=0.0, guidance_scale=1.0)
    codes = decode_image_tokens(model, layout, [prompt], rules, [0])
    likelihood = code_log_likelihoods(model, layout, prompt, codes)[0, 1, 2]
    for code in range(24):
        other = codes.clone()
        other[0, 1, 2] = code
        assert code_log_likelihoods(model, layout, prompt, other)[0, 1, 2] <= likelihood


def test_no_image_depends_on_the_others(model: PreTrainedModel, layout: SequenceLayout):
    codes = torch.randint(24, (3, 3, 4), generator=torch.Generator().manual_seed(1))
    together = code_log_likelihoods(model, layout, layout.prompt_ids([5]), codes)
    alone = code_log_likelihoods(model, layout, layout.prompt_ids([5]), codes[1:2])
    assert torch.equal(alone[0], together[1])


@pytest.mark.parametrize("codes", [torch.zeros(1, 4, 4), torch.full((1, 3, 4), 24), torch.full((1, 3, 4), -1)])
def test_codes_of_another_kind_are_one_sentence(model: PreTrainedModel, layout: SequenceLayout, codes: torch.Tensor):
    with pytest.raises(GenerationError, match="are no images of 3 x 4 codes below 24"):
        code_log_likelihoods(model, layout, layout.prompt_ids([5]), codes.long())
