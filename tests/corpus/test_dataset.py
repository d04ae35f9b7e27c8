from pathlib import Path
from typing import Any

import pytest
import torch

from arra_med.corpus.dataset import TrainingDataset
from arra_med.corpus.features import TeacherFeature, TeacherFeatures, extract_features, read_features
from arra_med.corpus.tokenize import Corpus
from arra_med.errors import CorpusError
from arra_med.tokens.layout import SequenceLayout
from tests.corpus.test_features import TinyEncoder
from tests.corpus.tiny_studies import WordTokenizer


@pytest.fixture
def corpus(corpus_folder: Path) -> Corpus:
    return Corpus.open(corpus_folder)


@pytest.fixture
def features(studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TeacherFeatures:
    monkeypatch.setattr("arra_med.corpus.features.load_encoder", lambda _: TinyEncoder())
    extract_features(studies, "tiny", tmp_path / "tiny.parquet", views=3, seed=5, device="cpu", progress=False)
    return read_features(tmp_path / "tiny.parquet")


def dataset(corpus: Corpus, layout: SequenceLayout, **settings: Any) -> TrainingDataset:
    return TrainingDataset(corpus, settings.pop("split", "train"), layout, WordTokenizer(), **settings)


def test_an_example_is_laid_out_by_hand(corpus: Corpus, layout: SequenceLayout) -> None:
    examples = dataset(corpus, layout, prompt_dropout=0.0)
    text_ids, k = examples.draw(2).text_ids, examples.draw(2).k
    codes = corpus.codes(2, k).flatten().tolist()
    example = examples[2]
    assert text_ids
    assert example["input_ids"] == [0, *text_ids, 2, *(200 + code for code in codes), 3]
    assert example["image_span"] == (len(text_ids) + 2, len(text_ids) + 6)
    assert example["key"] == f"kermany_pneumonia/img2#{k}"
    assert example["teacher_features"] == ()


def test_a_dropped_prompt_is_the_unconditional_sequence(corpus: Corpus, layout: SequenceLayout) -> None:
    examples = dataset(corpus, layout, prompt_dropout=1.0)
    ids = examples[0]["input_ids"]
    assert ids[:2] == layout.unconditional_ids == [0, 2]
    assert len(ids) == 2 + 4 + 1


def test_draws_depend_on_seed_epoch_and_image_alone(
    corpus: Corpus, layout: SequenceLayout, features: TeacherFeatures
) -> None:
    plain = dataset(corpus, layout, seed=3)
    taught = dataset(corpus, layout, seed=3, teachers=[TeacherFeature(features, "mean")])
    for epoch in (4, 0, 4):
        plain.set_epoch(epoch)
        taught.set_epoch(epoch)
        forwards = [plain[index]["input_ids"] for index in range(4)]
        backwards = [taught[index]["input_ids"] for index in reversed(range(4))]
        assert forwards == backwards[::-1]


def test_epochs_and_seeds_change_the_draws(corpus: Corpus, layout: SequenceLayout) -> None:
    examples = dataset(corpus, layout, seed=3)
    seen = set()
    for epoch in range(8):
        examples.set_epoch(epoch)
        seen.add(tuple((draw.text, draw.k, draw.dropped) for draw in map(examples.draw, range(4))))
    assert len(seen) == 8
    other = [dataset(corpus, layout, seed=seed).draw(0).text for seed in range(8)]
    assert len(set(other)) > 1


def test_every_view_is_drawn_and_the_share_of_dropped_prompts_is_as_asked(
    corpus: Corpus, layout: SequenceLayout
) -> None:
    examples = dataset(corpus, layout, prompt_dropout=0.25)
    draws = []
    for epoch in range(100):
        examples.set_epoch(epoch)
        draws += [examples.draw(index) for index in range(4)]
    assert {draw.k for draw in draws} == {0, 1, 2}
    assert 60 <= sum(draw.dropped for draw in draws) <= 140  # 100 expected; five standard deviations either side


def test_dropout_moves_no_other_draw(corpus: Corpus, layout: SequenceLayout) -> None:
    without, half = dataset(corpus, layout, prompt_dropout=0.0), dataset(corpus, layout, prompt_dropout=0.5)
    for epoch in range(10):
        without.set_epoch(epoch)
        half.set_epoch(epoch)
        for index in range(4):
            draw = half.draw(index)
            assert draw.k == without.draw(index).k
            assert draw.dropped or draw.text == without.draw(index).text


def test_a_rare_finding_comes_again_with_draws_of_its_own(corpus: Corpus, layout: SequenceLayout) -> None:
    once, again = dataset(corpus, layout), dataset(corpus, layout, repeat_threshold=1.0)
    assert len(again) > len(once) == 4
    first = [again.draw(index) for index, (_, repeat) in enumerate(again.examples) if repeat == 0]
    assert first == [once.draw(index) for index in range(4)]  # repeats move no other draw
    index = next(index for index, (_, repeat) in enumerate(again.examples) if repeat == 1)
    seen = []
    for epoch in range(8):
        again.set_epoch(epoch)
        seen.append((again.draw(index), again.draw(index - 1)))
    assert any(repeated != first for repeated, first in seen)
    assert len(dataset(corpus, layout, repeat_threshold=1.0, evaluation=True)) == 4


def test_token_noise_changes_the_context_and_nothing_else(corpus: Corpus, layout: SequenceLayout) -> None:
    clean, noisy = dataset(corpus, layout), dataset(corpus, layout, token_noise=0.25)
    num_changed = num_seen = 0
    for epoch in range(50):
        clean.set_epoch(epoch)
        noisy.set_epoch(epoch)
        for index in range(4):
            example = noisy[index]
            assert example["input_ids"] == clean[index]["input_ids"] == clean[index]["context_ids"]
            pairs = list(zip(example["input_ids"], example["context_ids"], strict=True))
            start, stop = example["image_span"]
            assert all(own == seen for own, seen in pairs[:start] + pairs[stop:])
            assert all(200 <= seen < 212 for _, seen in pairs[start:stop])
            num_changed += sum(own != seen for own, seen in pairs)
            num_seen += stop - start
    assert num_changed / num_seen == pytest.approx(0.25 * 11 / 12, abs=0.06)  # one draw in 12 hits the same code
    assert dataset(corpus, layout, token_noise=0.5, evaluation=True).token_noise == 0


def test_evaluation_is_the_same_in_every_epoch(corpus: Corpus, layout: SequenceLayout) -> None:
    examples = dataset(corpus, layout, prompt_dropout=1.0, evaluation=True)
    before = [examples[index] for index in range(4)]
    examples.set_epoch(7)
    assert [examples[index] for index in range(4)] == before
    assert examples.epoch == 0
    assert all(example["key"].endswith("#0") and len(example["input_ids"]) > 7 for example in before)
    first = dataset(corpus, layout, prompt_dropout=0.0)
    assert [examples.draw(i).text for i in range(4)] == [first.draw(i).text for i in range(4)]


def test_a_long_prompt_is_cut_and_the_image_stays_whole(corpus: Corpus, layout: SequenceLayout) -> None:
    short = layout.model_copy(update={"max_text_tokens": 8})
    examples = dataset(corpus, short, prompt_dropout=0.0)
    for index in range(4):
        example = examples[index]
        start, stop = example["image_span"]
        assert start <= 1 + 8 + 1
        assert stop - start == 4
        assert example["input_ids"][stop:] == [3]


def test_teacher_features_are_those_of_the_drawn_view(
    corpus: Corpus, layout: SequenceLayout, features: TeacherFeatures
) -> None:
    examples = dataset(corpus, layout, teachers=[TeacherFeature(features, "mean")])
    for epoch in range(3):
        examples.set_epoch(epoch)
        for index in range(4):
            example = examples[index]
            (feature,) = example["teacher_features"]
            assert torch.equal(feature, features.get([example["key"]], "mean")[0])


def test_what_does_not_fit_is_refused(corpus: Corpus, layout: SequenceLayout, features: TeacherFeatures) -> None:
    with pytest.raises(CorpusError, match=r"has 12 codes on a grid of \(2, 2\), the layout has 12 on \(4, 1\)"):
        dataset(corpus, layout.model_copy(update={"grid": (4, 1)}))
    with pytest.raises(CorpusError, match="prompt_dropout is 1.5; it is a share from 0 to 1"):
        dataset(corpus, layout, prompt_dropout=1.5)
    with pytest.raises(CorpusError, match="holds mean, feature 'cls' was asked for"):
        dataset(corpus, layout, teachers=[TeacherFeature(features, "cls")])


def test_an_empty_split_is_refused(tmp_path: Path, tokenizer: Path, layout: SequenceLayout) -> None:
    from arra_med.corpus.tokenize import tokenize
    from tests.corpus.tiny_studies import write_study_set

    write_study_set(tmp_path / "all", split="train")
    tokenize(tmp_path / "all", tokenizer, tmp_path / "out", device="cpu", progress=False)
    with pytest.raises(CorpusError, match="no image of the chosen sources and fold is in split test; it has train"):
        dataset(Corpus.open(tmp_path / "out"), layout, split="test")
