"""The label-aware contrastive loss: worked by hand, and equal to CLIP's where every caption is another one."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss

from arra_med.training.clip_losses import UNKNOWN_LABELS, label_aware_contrastive_loss, matching_pairs

UNKNOWN = UNKNOWN_LABELS


def test_equal_labels_and_equal_captions_are_positives() -> None:
    positives, comparable = matching_pairs(torch.tensor([0, 0, 1]), torch.tensor([5, 6, 6]))
    assert positives.tolist() == [[True, True, False], [True, True, True], [False, True, True]]
    assert comparable.all()


def test_an_image_of_unknown_labels_is_compared_with_its_own_caption_alone() -> None:
    positives, comparable = matching_pairs(torch.tensor([0, UNKNOWN, UNKNOWN, 1]), torch.tensor([0, 1, 1, 2]))
    assert positives.tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert comparable.tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]


def test_it_is_clip_s_loss_when_every_caption_is_another_one() -> None:
    torch.manual_seed(0)
    image = torch.nn.functional.normalize(torch.randn(5, 8), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(5, 8), dim=-1)
    positives, comparable = matching_pairs(torch.arange(5), torch.arange(5))
    own = label_aware_contrastive_loss(14.0 * image @ text.T, positives, comparable)
    torch.testing.assert_close(own, ClipLoss()(image, text, torch.tensor(14.0)))


def test_a_value_worked_out_by_hand() -> None:
    # Two images of the same labels and a third: P = {0, 1} for the first rows, {2} for the last.
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    positives, comparable = matching_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]))
    log_partition = math.log(math.e + 2)
    expected = (2 * (log_partition - 0.5) + (log_partition - 1)) / 3
    assert float(label_aware_contrastive_loss(logits, positives, comparable)) == pytest.approx(expected)


def test_what_is_left_out_gets_no_gradient() -> None:
    logits = torch.zeros(3, 3, requires_grad=True)
    pairs = matching_pairs(torch.tensor([0, UNKNOWN, 1]), torch.tensor([0, 1, 2]))
    label_aware_contrastive_loss(logits, *pairs).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1].tolist() == [0, 0, 0]
    assert logits.grad[0, 1] == 0
    assert logits.grad[0, 2] > 0
