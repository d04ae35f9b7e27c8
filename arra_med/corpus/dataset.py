"""Training examples: a corpus, a split and an epoch become sequences.

Wording, augmented view and prompt dropout of an image are drawn from (seed, epoch, image_id, repeat) alone. Neither the order
of the examples, the number of workers, a resumed run nor the presence of a teacher changes them: a baseline and an
ARRA run see the very same sequences.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import torch
from torch.utils.data import Dataset as TorchDataset

from arra_med.corpus.features import TeacherFeature
from arra_med.corpus.folds import PatientFold, takes
from arra_med.corpus.repeats import repeated_images
from arra_med.corpus.tokenize import Corpus
from arra_med.corpus.views import digest_of_bytes
from arra_med.errors import CorpusError
from arra_med.records.study import Split
from arra_med.records.wording import prompt_text
from arra_med.tokens.layout import SequenceLayout, Span

__all__ = ["Corpus", "Draw", "Example", "TrainingDataset"]


class Draw(NamedTuple):
    """What chance decided for one image in one epoch.

    Attributes:
        text: The prompt; empty where it was dropped.
        text_ids: Its tokens.
        k: The view.
        dropped: Whether the sequence is the unconditional one.
    """

    text: str
    text_ids: list[int]
    k: int
    dropped: bool


class Example(TypedDict):
    """One training example.

    Attributes:
        input_ids: The sequence.
        context_ids: What the model sees of it: `input_ids`, or with token noise some image tokens replaced.
        image_span: Positions of the image tokens in it.
        key: `image_id#k` of the view.
        teacher_features: For each teacher float32 (D,), or (N, D) for patches.
    """

    input_ids: list[int]
    context_ids: list[int]
    image_span: Span
    key: str
    teacher_features: tuple[torch.Tensor, ...]


class TrainingDataset(TorchDataset[Example]):
    """The examples of one split.

    Args:
        corpus: The corpus.
        split: Which part of it.
        layout: Layout of the sequences.
        text_tokenizer: The language model's Hugging Face tokenizer.
        seed: Of all draws.
        prompt_dropout: Share of examples whose prompt is dropped, in [0, 1].
        token_noise: Chance of an image token, in [0, 1), to be replaced by any code where it stands as context; what is
            predicted stays right. It works against learning images by heart, and against errors that grow while
            sampling (LlamaGen drops tokens for the same purpose). Evaluation has none.
        teachers: Whose features of the same views come along.
        repeat_threshold: Share of the images below which a finding is rare, so that its images come several times in
            an epoch (`repeat_factors`), each time with draws of its own; 0 repeats none, and neither does evaluation.
        evaluation: Draws as in epoch 0, whatever epoch it is, always from the canonical view and without dropout, so
            that held-out losses of different epochs and runs can be compared.
        sources: Only these; empty takes all.
        fold: Only these patients; `None` takes all.

    Raises:
        CorpusError: If the corpus does not fit the layout, the split is empty, the dropout is no share, or the
            features are missing, of another study set or of other pixels.

    Attributes:
        epoch: The epoch that draws are made for; `SequenceStream` sets it for each sequence.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: Split,
        layout: SequenceLayout,
        text_tokenizer: Any,
        *,
        seed: int = 0,
        prompt_dropout: float = 0.1,
        token_noise: float = 0.0,
        teachers: Sequence[TeacherFeature] = (),
        repeat_threshold: float = 0.0,
        evaluation: bool = False,
        sources: Sequence[str] = (),
        fold: PatientFold | None = None,
    ) -> None:
        self.corpus = corpus
        self.layout = layout
        self.text_tokenizer = text_tokenizer
        self.seed = seed
        self.prompt_dropout = 0.0 if evaluation else prompt_dropout
        self.token_noise = 0.0 if evaluation else token_noise
        self.teachers = teachers
        self.evaluation = evaluation
        self.images = [
            image
            for image, record in enumerate(corpus.records)
            if record.split == split and takes(record, sources, fold)
        ]
        self.examples = repeated_images(corpus.records, self.images, 0.0 if evaluation else repeat_threshold)
        self.epoch = 0
        self._check(split, prompt_dropout)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that draws are made for; evaluation stays at epoch 0."""
        if not self.evaluation:
            self.epoch = epoch

    def __len__(self) -> int:
        return len(self.examples)

    def draw(self, index: int) -> Draw:
        """Returns what chance decides for an example in this epoch."""
        image, repeat = self.examples[index]
        num_views = 1 if self.evaluation else self.corpus.num_views(image)
        k = self._random("view", image, repeat).randrange(num_views)
        record = self.corpus.records[image]
        text = prompt_text(record, self._random("wording", image, repeat))
        if len(self._text_ids(text)) > self.layout.max_text_tokens:  # the same wording, cut where a sentence ends
            text = prompt_text(
                record,
                self._random("wording", image, repeat),
                count_tokens=lambda part: len(self._text_ids(part)),
                max_tokens=self.layout.max_text_tokens,
            )
        text_ids = self._text_ids(text)
        if self._random("dropout", image, repeat).random() < self.prompt_dropout:
            return Draw("", self.layout.dropped_text_ids(text_ids), k, dropped=True)
        return Draw(text, text_ids, k, dropped=False)

    def __getitem__(self, index: int) -> Example:
        draw = self.draw(index)
        image, repeat = self.examples[index]
        codes = self.corpus.codes(image, draw.k).flatten().tolist()
        input_ids, image_span = self.layout.training_ids(draw.text_ids, codes)
        context_ids = list(input_ids)
        if self.token_noise:
            first, codebook_size = self.layout.vocabulary.first_image_id, self.layout.vocabulary.codebook_size
            chance = self._random("noise", image, repeat)
            for position in (image_span.start + offset for offset in self.layout.image_offsets):
                if chance.random() < self.token_noise:
                    context_ids[position] = first + chance.randrange(codebook_size)
        key = self.corpus.key(image, draw.k)
        return Example(
            input_ids=input_ids,
            context_ids=context_ids,
            image_span=image_span,
            key=key,
            teacher_features=tuple(teacher.get([key])[0] for teacher in self.teachers),
        )

    def _text_ids(self, text: str) -> list[int]:
        return self.layout.text_ids(self.text_tokenizer, text)

    def _random(self, purpose: str, image: int, repeat: int) -> random.Random:
        """Returns a generator of its own for each purpose, so that one setting does not shift another's draws."""
        parts = [purpose, str(self.seed), str(self.epoch), self.corpus.records[image].image_id]
        if repeat:
            parts.append(str(repeat))
        return random.Random(digest_of_bytes(*(part.encode() for part in parts)))

    def _check(self, split: Split, prompt_dropout: float) -> None:
        corpus, vocabulary = self.corpus, self.layout.vocabulary
        if corpus.grid != self.layout.grid or corpus.info.codebook_size != vocabulary.codebook_size:
            raise CorpusError(
                f"{corpus.folder}: has {corpus.info.codebook_size} codes on a grid of {corpus.grid}, the layout has "
                f"{vocabulary.codebook_size} on {self.layout.grid}; tokenize with the model's image tokenizer"
            )
        if not self.images:
            there = ", ".join(corpus.info.split_counts)
            raise CorpusError(
                f"{corpus.folder}: no image of the chosen sources and fold is in split {split}; it has {there}"
            )
        for name, share in (("prompt_dropout", prompt_dropout), ("token_noise", self.token_noise)):
            if not 0 <= share <= 1:
                raise CorpusError(f"{name} is {share}; it is a share from 0 to 1")
        for teacher in self.teachers:
            teacher.require(corpus.info.study_set_sha256, corpus.view_hashes(self.images))
