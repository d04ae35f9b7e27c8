"""Batches: sequences of different lengths padded on the right, with labels on the image alone."""

from collections.abc import Sequence
from typing import Any

import torch

from arra_med.corpus.dataset import Example
from arra_med.tokens.layout import SequenceLayout

IGNORED_LABEL = -100  # what transformers' and torch's cross entropy leave out


class Collator:
    """Puts examples into one batch.

    Args:
        layout: Layout of the sequences.
    """

    def __init__(self, layout: SequenceLayout) -> None:
        self.layout = layout

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Pads B examples to the longest one, T tokens.

        Returns:
            input_ids: int64 (B, T), padded on the right.
            context_ids: int64 (B, T), what the model sees of `input_ids` (`Example.context_ids`).
            attention_mask: int64 (B, T), 1 at every token that is no padding.
            labels: int64 (B, T), the image tokens and the `eoi` after them at their own positions (the model shifts
                them); `IGNORED_LABEL` elsewhere.
            image_start: int64 (B,), position of the first image token of each row.
            keys: `image_id#k` of each row.
            teacher_features: For each teacher float32 (B, D), or (B, N, D) for patches; only where there is a teacher.
        """
        longest = max(len(example["input_ids"]) for example in examples)
        shape = (len(examples), longest)
        input_ids = torch.full(shape, self.layout.vocabulary.pad_id, dtype=torch.int64)
        context_ids = input_ids.clone()
        attention_mask = torch.zeros(shape, dtype=torch.int64)
        labels = torch.full(shape, IGNORED_LABEL, dtype=torch.int64)
        for row, example in enumerate(examples):
            ids = torch.tensor(example["input_ids"], dtype=torch.int64)
            start, stop = example["image_span"]
            input_ids[row, : len(ids)] = ids
            context_ids[row, : len(ids)] = torch.tensor(example["context_ids"], dtype=torch.int64)
            attention_mask[row, : len(ids)] = 1
            labels[row, start : stop + 1] = ids[start : stop + 1]  # eoi is the one after the image
        batch: dict[str, Any] = {
            "input_ids": input_ids,
            "context_ids": context_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            "image_start": torch.tensor([example["image_span"][0] for example in examples], dtype=torch.int64),
            "keys": [example["key"] for example in examples],
        }
        if examples[0]["teacher_features"]:
            of_each = zip(*(example["teacher_features"] for example in examples), strict=True)
            batch["teacher_features"] = [torch.stack(features) for features in of_each]
        return batch
