"""The order of training: one endless stream of sequences, numbered from 0, epoch after epoch.

Sequence number n is example `order(epoch)[n % N]` of epoch n // N, where the order is drawn from (seed, epoch). What the
n-th sequence holds thus depends on its number alone: not on how many processes share the stream, in how large batches
they take it, how many workers load it, or where a resumed run begins.
"""

import torch
from torch.utils.data import Dataset as TorchDataset

from arra_med.corpus.dataset import Example, TrainingDataset
from arra_med.corpus.views import digest_of_bytes


class SequenceStream(TorchDataset[Example]):
    """The first sequences of the stream, as a data set that is read from front to back.

    Args:
        examples: The examples of one epoch.
        num_sequences: Length of the stream.
    """

    def __init__(self, examples: TrainingDataset, num_sequences: int) -> None:
        self.examples = examples
        self._num_sequences = num_sequences
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self._num_sequences

    def __getitem__(self, number: int) -> Example:
        epoch, index = self.place(number)
        self.examples.set_epoch(epoch)
        return self.examples[index]

    def place(self, number: int) -> tuple[int, int]:
        """Returns the epoch and the index of an example for a sequence's number."""
        epoch, position = divmod(number, len(self.examples))
        if epoch != self._epoch:
            digest = digest_of_bytes(b"order", str(self.examples.seed).encode(), str(epoch).encode())
            generator = torch.Generator().manual_seed(int(digest[:15], 16))
            self._epoch, self._order = epoch, torch.randperm(len(self.examples), generator=generator)
        return epoch, int(self._order[position])
