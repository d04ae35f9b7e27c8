"""The order of training depends on the number of a sequence alone."""

from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from arra_med.corpus.collator import Collator
from arra_med.corpus.dataset import TrainingDataset
from arra_med.corpus.stream import SequenceStream
from arra_med.corpus.tokenize import Corpus
from arra_med.tokens.layout import SequenceLayout
from tests.corpus.tiny_studies import WordTokenizer


@pytest.fixture
def corpus(corpus_folder: Path) -> Corpus:
    return Corpus.open(corpus_folder)


def examples(corpus: Corpus, layout: SequenceLayout, seed: int = 2) -> TrainingDataset:
    return TrainingDataset(corpus, "train", layout, WordTokenizer(), seed=seed, prompt_dropout=0.3, token_noise=0.2)


def test_every_epoch_holds_every_example_once_in_an_order_of_its_own(corpus: Corpus, layout: SequenceLayout) -> None:
    stream = SequenceStream(examples(corpus, layout), 4 * 50)
    places = [stream.place(number) for number in range(4 * 50)]
    assert [epoch for epoch, _ in places] == [number // 4 for number in range(4 * 50)]
    orders = {tuple(index for _, index in places[start : start + 4]) for start in range(0, 4 * 50, 4)}
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len(orders) > 12  # of 24
    other = SequenceStream(examples(corpus, layout, seed=3), 40)
    assert [other.place(number) for number in range(40)] != places[:40]


def test_a_sequence_is_that_of_its_example_in_its_epoch(corpus: Corpus, layout: SequenceLayout) -> None:
    stream, plain = SequenceStream(examples(corpus, layout), 20), examples(corpus, layout)
    backwards = [stream[number] for number in reversed(range(20))][::-1]
    for number, found in enumerate(backwards):
        epoch, index = stream.place(number)
        plain.set_epoch(epoch)
        assert found == plain[index]


def test_workers_that_load_two_epochs_at_once_load_the_right_ones(corpus: Corpus, layout: SequenceLayout) -> None:
    stream = SequenceStream(examples(corpus, layout), 24)
    wanted = [stream[number]["context_ids"] for number in range(24)]
    loader = DataLoader(
        stream, batch_size=3, num_workers=2, collate_fn=Collator(layout)
    )  # batches cross epochs of four
    found = [row for batch in loader for row in batch["context_ids"].tolist()]
    assert [row[: len(ids)] for row, ids in zip(found, wanted, strict=True)] == wanted
