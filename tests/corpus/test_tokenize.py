import json
from pathlib import Path

import numpy as np
import pytest
import torch

from arra_med.corpus.study_set import StudySet
from arra_med.corpus.tokenize import Corpus, tokenize
from arra_med.errors import CorpusError, TokenizerError
from arra_med.imaging.view import augmented_view, from_uint8
from arra_med.tokens.protocol import load_image_tokenizer
from arra_med.tokens.vq import VQConfig, VQTokenizer
from tests.corpus.tiny_studies import view, write_study_set


def test_codes_are_the_tokenizers_own_of_the_very_view(corpus_folder: Path, tokenizer: Path) -> None:
    corpus, image_tokenizer = Corpus.open(corpus_folder), load_image_tokenizer(tokenizer)
    for image, k in ((0, 0), (2, 1), (3, 2), (5, 0)):
        pixels = from_uint8(augmented_view(view(image), f"kermany_pneumonia/img{image}", k, seed=5))
        expected = image_tokenizer.encode(torch.from_numpy(pixels)[None])[0]
        assert torch.equal(corpus.codes(image, k), expected)
        assert corpus.codes(image, k).dtype == torch.int64


def test_only_training_studies_have_variants(corpus_folder: Path) -> None:
    corpus = Corpus.open(corpus_folder)
    assert [corpus.num_views(image) for image in range(len(corpus))] == [3, 3, 3, 3, 1, 1]
    assert corpus.key(1, 2) == "kermany_pneumonia/img1#2"
    with pytest.raises(CorpusError, match="image 5 of the corpus has 1 views, number 1 was asked for"):
        corpus.codes(5, 1)


def test_records_are_the_study_sets(corpus_folder: Path, studies: Path) -> None:
    assert Corpus.open(corpus_folder).records == StudySet.open(studies).records()


def test_metadata_tells_where_it_comes_from(corpus_folder: Path, studies: Path) -> None:
    metadata = json.loads((corpus_folder / "corpus.json").read_text())
    assert metadata == Corpus.open(corpus_folder).metadata
    assert (metadata["grid"], metadata["codebook_size"], metadata["num_rows"]) == ([2, 2], 12, 14)
    assert metadata["study_set_sha256"] == StudySet.open(studies).content_sha256
    assert metadata["licence_class"] == "open"
    assert metadata["split_counts"] == {"test": 1, "train": 4, "validation": 1}
    assert {split: sum(counts.values()) for split, counts in metadata["label_counts"].items()} == {
        "train": 4,
        "validation": 1,
        "test": 1,
    }


def test_a_second_run_encodes_nothing(
    corpus_folder: Path, studies: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (corpus_folder / "shard-00000.parquet").stat().st_mtime_ns
    monkeypatch.setattr(VQTokenizer, "encode", lambda *_: pytest.fail("encoded again"))
    tokenize(studies, tokenizer, corpus_folder, views=3, seed=5, device="cpu", progress=False)
    assert (corpus_folder / "shard-00000.parquet").stat().st_mtime_ns == before


def test_a_stopped_run_goes_on_to_the_same_corpus(
    corpus_folder: Path, studies: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arra_med.corpus.tokenize.SHARD_ROWS", 4)
    whole = tokenize(studies, tokenizer, tmp_path / "whole", views=3, seed=5, device="cpu", progress=False)
    calls = 0
    encode = VQTokenizer.encode

    def interrupted(self: VQTokenizer, images: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return encode(self, images)

    monkeypatch.setattr(VQTokenizer, "encode", interrupted)
    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        tokenize(studies, tokenizer, out, views=3, seed=5, device="cpu", progress=False)
    assert len(list(out.glob("shard-*.parquet"))) == 2
    with pytest.raises(CorpusError, match=r"no finished corpus \(corpus.json is missing\)"):
        Corpus.open(out)
    assert tokenize(studies, tokenizer, out, views=3, seed=5, device="cpu", progress=False) == whole
    assert calls == 3 + 2  # 14 rows in shards of 4: two done, one interrupted, two to go
    for index in range(4):
        name = f"shard-{index:05d}.parquet"
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_seed_makes_other_variants_and_the_same_canonical_codes(
    corpus_folder: Path, studies: Path, tokenizer: Path, tmp_path: Path
) -> None:
    tokenize(studies, tokenizer, tmp_path / "other", views=3, seed=6, device="cpu", progress=False)
    corpus, other = Corpus.open(corpus_folder), Corpus.open(tmp_path / "other")
    images = range(4)
    assert all(torch.equal(corpus.codes(image), other.codes(image)) for image in images)
    hashes, other_hashes = corpus.view_hashes(images), other.view_hashes(images)
    assert all((hashes[key] == other_hashes[key]) == key.endswith("#0") for key in hashes)


def test_fewer_shards_leave_no_stale_ones(
    studies: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arra_med.corpus.tokenize.SHARD_ROWS", 2)
    out = tmp_path / "out"
    tokenize(studies, tokenizer, out, views=2, device="cpu", progress=False)
    tokenize(studies, tokenizer, out, views=1, device="cpu", progress=False)
    assert len(list(out.glob("shard-*"))) == 3
    assert len(Corpus.open(out).dataset) == 6


def test_a_tokenizer_of_another_size_is_refused(studies: Path, tmp_path: Path) -> None:
    shape = VQConfig(size_px=32, channels=3, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(3,))
    VQTokenizer(shape).save_pretrained(tmp_path / "rgb")
    with pytest.raises(CorpusError, match=r"takes 32 px with 3 channel\(s\), the study set has 16 px with 1"):
        tokenize(studies, tmp_path / "rgb", tmp_path / "out", device="cpu", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_missing_tokenizer_is_named(studies: Path, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no readable config.json"):
        tokenize(studies, tmp_path / "none", tmp_path / "out", device="cpu", progress=False)


def test_no_view_at_all_is_refused(studies: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="views is 0; each training study needs at least 1"):
        tokenize(studies, tokenizer, tmp_path / "out", views=0, device="cpu", progress=False)


def test_a_damaged_corpus_is_refused(corpus_folder: Path) -> None:
    values = json.loads((corpus_folder / "corpus.json").read_text())
    for changed, message in (
        ({"format_version": 9}, "has format version 9, this program reads 1"),
        ({"grid": "wide"}, "is not valid at grid; run arra-med tokenize again"),
        ({"num_images": 7}, "its rows are not the ones corpus.json tells of"),
        ({"shards": ["other"]}, "shard-00000.parquet is missing, damaged or from another run"),
    ):
        (corpus_folder / "corpus.json").write_text(json.dumps({**values, **changed}))
        with pytest.raises(CorpusError, match=message):
            Corpus.open(corpus_folder)


def test_the_same_studies_give_the_same_codes_whatever_the_batch(
    corpus_folder: Path, studies: Path, tokenizer: Path, tmp_path: Path
) -> None:
    tokenize(studies, tokenizer, tmp_path / "ones", views=3, seed=5, batch_size=1, device="cpu", progress=False)
    corpus, ones = Corpus.open(corpus_folder), Corpus.open(tmp_path / "ones")
    for image in range(len(corpus)):
        np.testing.assert_array_equal(corpus.codes(image), ones.codes(image))


def test_unlabelled_studies_are_counted_as_such(tokenizer: Path, tmp_path: Path) -> None:
    write_study_set(tmp_path / "plain", labels=())
    info = tokenize(tmp_path / "plain", tokenizer, tmp_path / "out", device="cpu", progress=False)
    assert info.label_counts["train"] == {"unlabelled": 4}
