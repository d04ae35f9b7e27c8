from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from arra_med.corpus.features import TeacherFeatures, extract_features, read_features
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.tokenize import Corpus
from arra_med.encoders.base import EncoderFeatures, FrozenEncoder, Preprocessing
from arra_med.errors import CorpusError, EncoderError
from arra_med.imaging.view import augmented_view, from_uint8
from tests.corpus.tiny_studies import view, write_study_set

NAMES = [f"kermany_pneumonia/img{number}" for number in range(6)]


class TinyEncoder(FrozenEncoder):
    """Four patches of six numbers by one random linear map; `cls` is the first patch, cut to five numbers."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__("tiny", torch.nn.Linear(3 * 64, 6), Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3))

    def encode_pixels(self, pixels: torch.Tensor) -> EncoderFeatures:
        patches = torch.nn.functional.unfold(pixels, 8, stride=8).transpose(1, 2)
        patch = self.network(patches)
        return EncoderFeatures(cls=patch[:, 0, :5], mean=patch.mean(1), patch=patch, grid=(2, 2))


@pytest.fixture(autouse=True)
def _tiny_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arra_med.corpus.features.load_encoder", lambda _: TinyEncoder())


@pytest.fixture
def features_file(studies: Path, tmp_path: Path) -> Path:
    kinds = ("cls", "mean", "patch")
    extract_features(
        studies, "tiny", tmp_path / "tiny.parquet", views=3, seed=5, kinds=kinds, device="cpu", progress=False
    )
    return tmp_path / "tiny.parquet"


def expected(image: int, k: int) -> EncoderFeatures:
    pixels = from_uint8(augmented_view(view(image), NAMES[image], k, seed=5))
    return TinyEncoder()(torch.from_numpy(pixels)[None])


def test_features_are_the_encoders_own_of_the_very_view(features_file: Path) -> None:
    features = read_features(features_file)
    assert features.name == "tiny"
    assert len(features) == 14
    for image, k in ((0, 0), (3, 2), (5, 0)):
        wanted = expected(image, k)
        for kind in ("cls", "mean", "patch"):
            found = features.get([f"{NAMES[image]}#{k}"], kind)
            torch.testing.assert_close(found, wanted.get(kind))
            assert found.dtype == torch.float32


def test_features_come_in_the_order_of_the_keys(features_file: Path) -> None:
    features = read_features(features_file)
    keys = [f"{NAMES[3]}#1", f"{NAMES[0]}#0", f"{NAMES[3]}#1"]
    together = features.get(keys, "mean")
    assert together.shape == (3, 6)
    assert torch.equal(together, torch.cat([features.get([key], "mean") for key in keys]))


def test_widths_add_up_where_features_stand_side_by_side(features_file: Path) -> None:
    features = read_features(features_file)
    assert (features.width("cls"), features.width("mean"), features.width("patch")) == (5, 6, 6)
    assert features.width("cls+mean") == 11
    key = [f"{NAMES[1]}#1"]
    both = features.get(key, "cls+mean")
    assert torch.equal(both, torch.cat([features.get(key, "cls"), features.get(key, "mean")], dim=1))
    with pytest.raises(CorpusError, match=r"cls\+patch joins global and patch features"):
        features.width("cls+patch")


def test_a_missing_key_or_feature_is_an_error(features_file: Path) -> None:
    features = read_features(features_file)
    with pytest.raises(CorpusError, match=r"has no features for kermany_pneumonia/img9#0; run arra-med features"):
        features.get([f"{NAMES[0]}#0", "kermany_pneumonia/img9#0"], "mean")
    with pytest.raises(CorpusError, match=r"holds cls, mean, patch, feature 'trunk-cls' was asked for"):
        features.get([f"{NAMES[0]}#0"], "trunk-cls")


@pytest.mark.parametrize("column", ["mean", "key", "view_sha256"])
def test_shuffled_rows_are_an_error(features_file: Path, corpus_folder: Path, column: str) -> None:
    table = pq.read_table(features_file)
    order = [1, 0, *range(2, len(table))]
    table = table.set_column(
        table.schema.get_field_index(column), table.schema.field(column), table[column].take(order)
    )
    pq.write_table(table, features_file)
    features = read_features(features_file)
    with pytest.raises(CorpusError, match="not those that were written for it"):
        features.get([f"{NAMES[0]}#0"], "mean")
    if column != "mean":
        corpus = Corpus.open(corpus_folder)
        with pytest.raises(CorpusError, match=r"2 of 12 views have other pixels than the corpus's"):
            features.require(corpus.info.study_set_sha256, corpus.view_hashes(range(4)))


def test_rows_in_another_order_are_the_same_features(features_file: Path) -> None:
    before = read_features(features_file).get([f"{NAMES[2]}#2"], "patch")
    pq.write_table(pq.read_table(features_file).take(list(range(13, -1, -1))), features_file)
    assert torch.equal(read_features(features_file).get([f"{NAMES[2]}#2"], "patch"), before)


def check(features: TeacherFeatures, corpus: Corpus) -> None:
    features.require(corpus.info.study_set_sha256, corpus.view_hashes(range(len(corpus))))


def test_features_of_the_corpus_pass_and_others_do_not(
    features_file: Path, corpus_folder: Path, studies: Path, tmp_path: Path
) -> None:
    corpus = Corpus.open(corpus_folder)
    check(read_features(features_file), corpus)
    extract_features(studies, "tiny", tmp_path / "few.parquet", views=1, seed=5, device="cpu", progress=False)
    with pytest.raises(CorpusError, match=r"8 of 14 views of the corpus are missing, the first is \S+img0#1"):
        check(read_features(tmp_path / "few.parquet"), corpus)
    extract_features(studies, "tiny", tmp_path / "seed.parquet", views=3, seed=6, device="cpu", progress=False)
    with pytest.raises(CorpusError, match=r"8 of 14 views have other pixels than the corpus's, the first is \S+img0#1"):
        check(read_features(tmp_path / "seed.parquet"), corpus)
    write_study_set(tmp_path / "others", report="Other words.")
    extract_features(tmp_path / "others", "tiny", tmp_path / "o.parquet", views=3, seed=5, device="cpu", progress=False)
    with pytest.raises(CorpusError, match=r"extracted from study set \w{12}, the corpus comes from \w{12}"):
        check(read_features(tmp_path / "o.parquet"), corpus)


def test_a_stopped_run_goes_on_to_the_same_file(studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arra_med.corpus.features.SHARD_ROWS", 4)
    whole = extract_features(studies, "tiny", tmp_path / "whole.parquet", views=3, device="cpu", progress=False)
    calls = 0
    encode = TinyEncoder.encode_pixels

    def interrupted(self: TinyEncoder, pixels: torch.Tensor) -> EncoderFeatures:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return encode(self, pixels)

    monkeypatch.setattr(TinyEncoder, "encode_pixels", interrupted)
    out = tmp_path / "stopped.parquet"
    with pytest.raises(KeyboardInterrupt):
        extract_features(studies, "tiny", out, views=3, device="cpu", progress=False)
    assert not out.exists()
    assert extract_features(studies, "tiny", out, views=3, device="cpu", progress=False) == whole
    assert calls == 4 + 1 + 2  # two parts of four were done; each run asks for the shapes once
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if "parts" in path.name] == []
    monkeypatch.setattr(TinyEncoder, "encode_pixels", lambda *_: pytest.fail("encoded again"))
    assert extract_features(studies, "tiny", out, views=3, device="cpu", progress=False) == whole


def test_an_unknown_kind_or_one_the_encoder_lacks_is_refused(studies: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"feature kinds \['median'\] are not known: use some of cls, mean"):
        extract_features(studies, "tiny", tmp_path / "f.parquet", kinds=("median",), progress=False)  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match="'trunk-cls' was asked for"):
        extract_features(studies, "tiny", tmp_path / "f.parquet", kinds=("trunk-cls",), device="cpu", progress=False)
    assert not (tmp_path / "f.parquet").exists()


def test_a_file_that_is_no_feature_file_is_refused(studies: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such feature file; run arra-med features"):
        read_features(tmp_path / "none.parquet")
    with pytest.raises(CorpusError, match="is damaged or no teacher feature file"):
        read_features(studies / "shard-first.parquet")


def test_a_permuted_teacher_gives_every_view_another_studys_feature(studies: Path, tmp_path: Path) -> None:
    out = tmp_path / "permuted.parquet"
    extract_features(studies, "permuted:tiny", out, views=3, seed=5, device="cpu", progress=False)
    features = read_features(out)
    assert features.name == "permuted:tiny"
    corpus = StudySet.open(studies)
    splits = dict(zip(corpus.image_ids, corpus.dataset["split"], strict=True))
    own = {name: expected(image, 0).mean for image, name in enumerate(NAMES)}
    taken = []
    for name in NAMES:
        found = features.get([f"{name}#0"], "mean")
        matches = [other for other, feature in own.items() if torch.allclose(feature, found, atol=1e-6)]
        assert len(matches) == 1
        assert matches[0] != name
        assert (splits[matches[0]] == "train") == (splits[name] == "train")
        taken += matches
    assert sorted(taken) == sorted(NAMES)
    row = NAMES.index(taken[3])
    torch.testing.assert_close(features.get([f"{NAMES[3]}#2"], "mean"), expected(row, 2).mean)


def test_a_permuted_file_fits_the_corpus_and_is_not_mistaken_for_the_true_one(studies: Path, tmp_path: Path) -> None:
    files = [tmp_path / "true.parquet", tmp_path / "permuted.parquet"]
    for name, file in zip(("tiny", "permuted:tiny"), files, strict=True):
        extract_features(studies, name, file, device="cpu", progress=False)
    true, permuted = [read_features(file) for file in files]
    hashes = dict(zip([f"{name}#0" for name in NAMES], true._hashes, strict=True))
    permuted.require(true.info.study_set_sha256, hashes)
    assert permuted.info.fingerprint != true.info.fingerprint
    extract_features(studies, "tiny", files[1], device="cpu", progress=False)
    assert read_features(files[1]).name == "tiny"
