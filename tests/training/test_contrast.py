"""Condition contrastive alignment against the equation written out, with transformers' own log-probabilities."""

import copy
import math

import pytest
import torch

from arra_med.models.presets import PRESETS, random_llama
from arra_med.training.contrast import Contrast, ContrastConfig, mismatched_sequences
from tests.training.test_task import LAYOUT, VOCABULARY, batch

TEXTS = ([10, 11, 12], [13])


def log_likelihood(model: torch.nn.Module, text: list[int], codes: list[int]) -> float:
    ids, span = LAYOUT.training_ids(text, codes)
    logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logits[place - 1, ids[place]]) for place in range(span.start, span.stop + 1))


def test_the_loss_is_the_papers_equation() -> None:
    start = random_llama(PRESETS["tiny"], VOCABULARY.vocab_size, 64, seed=0)
    subject = Contrast(ContrastConfig(beta=0.5, negative_weight=3.0), LAYOUT, start)
    trained = copy.deepcopy(start)
    with torch.no_grad():
        for weight in trained.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    inputs = batch(*TEXTS)
    with torch.no_grad():
        found = float(subject(trained, inputs["input_ids"], inputs["image_start"]))
        expected = 0.0
        for own, other in ((TEXTS[0], TEXTS[1]), (TEXTS[1], TEXTS[0])):
            gain = [
                log_likelihood(trained, t, [1, 2, 3, 4]) - log_likelihood(start, t, [1, 2, 3, 4]) for t in (own, other)
            ]
            expected += math.log1p(math.exp(-0.5 * gain[0])) + 3.0 * math.log1p(math.exp(0.5 * gain[1]))
    assert found == pytest.approx(expected / 2, rel=1e-4)


def test_an_image_stands_behind_the_next_rows_report() -> None:
    inputs = batch(*TEXTS)
    ids, starts = mismatched_sequences(LAYOUT, inputs["input_ids"], inputs["image_start"])
    expected = [LAYOUT.training_ids(text, [1, 2, 3, 4]) for text in TEXTS[::-1]]
    for row, (sequence, span) in enumerate(expected):
        assert ids[row, : len(sequence)].tolist() == sequence
        assert int(starts[row]) == span.start


def test_the_reference_is_no_part_of_what_is_trained_or_saved() -> None:
    subject = Contrast(ContrastConfig(), LAYOUT, random_llama(PRESETS["tiny"], VOCABULARY.vocab_size, 64, seed=0))
    assert not list(subject.parameters())
    assert not subject.state_dict()
