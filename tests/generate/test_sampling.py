import math

import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from arra_med.errors import GenerationError
from arra_med.generate.sampling import (
    SamplingRules,
    UniformStreams,
    choose_tokens,
    filtered_logits,
    guided_logits,
    gumbel_noise,
)


def test_filters_equal_the_warpers_of_transformers():
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(1)) * 3
    expected = TemperatureLogitsWarper(0.7)(None, logits)
    expected = TopPLogitsWarper(0.8)(None, TopKLogitsWarper(9)(None, expected))
    found = filtered_logits(logits, SamplingRules(temperature=0.7, top_k=9, top_p=0.8))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("top_p", "kept"), [(0.0, 1), (0.4, 1), (0.5, 1), (0.51, 2), (0.8, 2), (0.81, 3), (1.0, 3)])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, kept: int):
    logits = torch.tensor([[math.log(0.3), math.log(0.2), math.log(0.5)]])  # 0.5, then 0.8, then all
    filtered = filtered_logits(logits, SamplingRules(top_p=top_p))
    assert int(filtered.isfinite().sum()) == kept


def test_guidance_by_hand():
    conditional, unconditional = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.5]])
    assert guided_logits(conditional, unconditional, 3.0).tolist() == [[4.0, -1.0]]
    assert torch.equal(guided_logits(conditional, unconditional, 0.0), unconditional)


def test_the_sampler_follows_the_softmax():
    logits = torch.tensor([1.5, 0.0, -1.0, 0.7, -0.3, 2.0])
    num_draws = 20_000
    uniforms = UniformStreams([11], 6).next_steps(num_draws)[:, 0]
    chosen = choose_tokens(logits.expand(num_draws, -1), SamplingRules(temperature=0.8), uniforms)
    expected = (logits / 0.8).softmax(dim=-1).double().numpy() * num_draws
    assert chisquare(chosen.bincount(minlength=6).numpy(), expected * num_draws / expected.sum()).pvalue > 0.01


def test_filtered_codes_are_never_drawn_whatever_the_numbers():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    for hostile in (torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.zeros(1, 4)):
        chosen = choose_tokens(logits, SamplingRules(top_k=2), hostile.double())
        assert int(chosen) in (2, 3)
    assert gumbel_noise(torch.tensor([0.0, 1.0])).isfinite().all()


def test_a_stream_depends_on_its_own_seed_and_step_only():
    alone, together = UniformStreams([5], 7), UniformStreams([9, 5, 2], 7)
    assert torch.equal(alone.next_steps(3)[:, 0], together.next_steps(3)[:, 1])
    first, second = alone.next_steps(1), alone.next_steps(1)
    assert torch.equal(torch.cat([first, second])[:, 0], together.next_steps(2)[:, 1])


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -0.1},
        {"top_k": 0},
        {"top_p": -0.1},
        {"top_p": 1.1},
        {"guidance_scale": math.nan},
        {"guidance_start": -1},
    ],
)
def test_rules_out_of_range_are_refused(settings: dict[str, float]):
    with pytest.raises(ValidationError, match=next(iter(settings))):
        SamplingRules(**settings)


def test_a_constant_guidance_is_written_as_it_was_before_there_were_schedules():
    plain, rising = SamplingRules(top_k=400), SamplingRules(guidance_start=1)
    assert plain.model_dump() == {"temperature": 1.0, "top_k": 400, "top_p": None, "guidance_scale": 3.0}
    for rules in (plain, rising):
        assert SamplingRules.model_validate(rules.model_dump(mode="json")) == rules
    assert rising.model_dump()["guidance_start"] == 1


def test_numbers_of_another_shape_are_refused():
    with pytest.raises(GenerationError, match=r"logits have shape \(1, 4\), the uniform numbers \(1, 3\)"):
        choose_tokens(torch.zeros(1, 4), SamplingRules(), torch.zeros(1, 3))
