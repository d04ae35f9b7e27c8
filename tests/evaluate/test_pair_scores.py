"""Pairs are scored as a plain loop scores them, ranked, kept when a run stops, and checked against shuffled ones."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from arra_med.cli import main
from arra_med.corpus.parquet import write_table
from arra_med.corpus.study_rows import STUDY_SCHEMA
from arra_med.corpus.study_set import StudySet, finish_study_set, study_shard_path
from arra_med.errors import EvaluationError, StudySetError
from arra_med.evaluate import pair_run
from arra_med.evaluate.intervals import auroc_interval
from arra_med.evaluate.pair_run import score_archive, shuffled_checks
from arra_med.evaluate.pair_scores import (
    PairLikelihoods,
    encoded_views,
    image_log_probs,
    other_reports,
    pair_prompt,
    score_pairs,
)
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.tokens.vq import VQConfig, VQTokenizer
from tests.corpus.tiny_studies import SPEC, record, study_row

WORDS = ("[UNK]", "effusion", "normal", "pneumonia", "AP", "view", "chest", "image", ",", ".", "right", "left")
REPORTS = ("Effusion.", "Normal chest.", "Right pneumonia. Left effusion.", "Normal chest.", "Left effusion.", "")


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vocabulary = ImageVocabulary(
        bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=20, codebook_size=12, vocab_size=40
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=40, max_position_embeddings=64, initializer_range=0.3, **shape))
    vq = VQConfig(size_px=16, downsampling=4, width=32, max_width=32, levels=(4, 3))
    words = Tokenizer(WordLevel({word: 4 + number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    folder = tmp_path_factory.mktemp("bundle")
    ModelBundle.save(
        folder / "tiny",
        model=model.eval(),
        text_tokenizer=PreTrainedTokenizerFast(tokenizer_object=words),
        image_tokenizer=VQTokenizer(vq).eval(),
        info=BundleInfo(
            name="tiny",
            variant="arra",
            layout=SequenceLayout(vocabulary=vocabulary, grid=(4, 4), max_text_tokens=16),
            canonical_view=CanonicalView(modality="cxr", size_px=16, version=1),
            licence_class="open",
            sources=(),
            attributions={},
            label_counts={},
            training={},
        ),
        card="# Tiny",
    )
    return folder / "tiny"


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> ModelBundle:
    return ModelBundle.load(bundle_folder)


@pytest.fixture
def studies_folder(tmp_path: Path) -> Path:
    """Six images of four patients with five reports; the last one has none."""
    folder = tmp_path / "studies"
    rows = [study_row(number, report=report) for number, report in enumerate(REPORTS)]
    write_table(study_shard_path(folder, "all"), rows, STUDY_SCHEMA, {"fingerprint": "all"})
    finish_study_set(folder, ["all"], spec=SPEC, num_quarantined=0, skipped={})
    return folder


@pytest.fixture
def studies(studies_folder: Path) -> StudySet:
    return StudySet.open(studies_folder)


def plain_log_prob(bundle: ModelBundle, prompt_ids: list[int], codes: list[int]) -> float:
    """One row, one token after another, float64, the softmax over the whole vocabulary."""
    model = LlamaForCausalLM(bundle.model.config).double()
    model.load_state_dict({name: value.double() for name, value in bundle.model.state_dict().items()})
    total, ids = 0.0, list(prompt_ids)
    for code in codes:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].numpy()
        token = bundle.layout.vocabulary.first_image_id + code
        total += logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        ids.append(token)
    return total / len(codes)


def test_likelihoods_are_those_of_a_plain_loop(bundle: ModelBundle, studies: StudySet) -> None:
    layout, rows = bundle.layout, [0, 1, 2]
    codes = encoded_views(bundle, studies, rows)
    prompts = [pair_prompt(bundle, studies.records()[row]) or "" for row in rows]
    texts = [layout.text_ids(bundle.text_tokenizer, prompt) for prompt in prompts]
    assert len({len(text) for text in texts}) > 1  # rows of different lengths in one batch
    found = score_pairs(bundle, codes, prompts, batch_size=3)
    vocabulary = layout.vocabulary
    for row, text in enumerate(texts):
        given = plain_log_prob(bundle, [vocabulary.bos_id, *text, vocabulary.boi_id], codes[row].tolist())
        alone = plain_log_prob(bundle, [vocabulary.bos_id, vocabulary.boi_id], codes[row].tolist())
        assert found.with_report[row] == pytest.approx(given, abs=2e-5)
        assert found.without_report[row] == pytest.approx(alone, abs=2e-5)
        assert found.scores[row] == pytest.approx(given - alone, abs=4e-5)
        assert abs(given - alone) > 1e-3


def test_neither_the_batch_nor_what_is_known_already_changes_a_score(bundle: ModelBundle, studies: StudySet) -> None:
    codes = encoded_views(bundle, studies, [0, 1, 2])
    prompts = ["AP view chest image", "effusion", "normal chest, right pneumonia"]
    whole = score_pairs(bundle, codes, prompts, batch_size=3)
    np.testing.assert_allclose(score_pairs(bundle, codes, prompts, batch_size=1).scores, whole.scores, atol=1e-5)
    known = score_pairs(bundle, codes, prompts, batch_size=3, without_report=whole.without_report)
    np.testing.assert_array_equal(known.scores, whole.scores)
    np.testing.assert_array_equal(score_pairs(bundle, codes, prompts, batch_size=3).scores, whole.scores)


def test_a_damaged_model_is_found_out(bundle_folder: Path) -> None:
    broken = ModelBundle.load(bundle_folder)
    broken.model.get_output_embeddings().weight.data[7] = float("nan")
    with pytest.raises(EvaluationError, match="likelihoods are not finite: its weights are damaged"):
        image_log_probs(broken.model, broken.layout, [[5]], np.zeros((1, 16), dtype=np.int64))


def test_the_table_ranks_flags_and_names_what_has_no_report(
    bundle: ModelBundle, studies: StudySet, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    pairs = score_archive(studies, bundle, out, threshold=0.01, batch_size=2, progress=False)
    lines = list(csv.DictReader(out.read_text().splitlines()))
    scores = [float(line["score_nats_per_token"]) for line in lines[:5]]
    assert scores == sorted(pairs.likelihoods.scores)
    assert [line["rank"] for line in lines] == ["1", "2", "3", "4", "5", ""]
    assert [line["flagged"] for line in lines[:5]] == [str(score < 0.01) for score in scores]
    assert len({line["flagged"] for line in lines[:5]}) == 2  # the threshold separates these
    assert lines[5] == {
        "image_id": "kermany_pneumonia/img5",
        "score_nats_per_token": "",
        "rank": "",
        "flagged": "False",
        "status": "no report",
    }
    first = studies.image_ids.index(lines[0]["image_id"])
    assert pairs.likelihoods.scores[first] == scores[0]
    score_archive(studies, bundle, tmp_path / "scores.parquet", threshold=0.01, batch_size=2, progress=False)
    assert pq.read_table(tmp_path / "scores.parquet")["score_nats_per_token"].to_pylist()[:5] == scores
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.csv", "scores.parquet", "studies"]


def test_a_stopped_run_keeps_its_parts(
    bundle: ModelBundle, studies: StudySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_run, "PART_ROWS", 2)
    whole = score_archive(studies, bundle, tmp_path / "whole.csv", batch_size=2, progress=False)
    calls: list[int] = []
    real = pair_run.score_pairs

    def stop_at_the_second(*args: Any, **settings: Any) -> PairLikelihoods:
        calls.append(len(args[1]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **settings)

    monkeypatch.setattr(pair_run, "score_pairs", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        score_archive(studies, bundle, tmp_path / "scores.csv", batch_size=2, progress=False)
    assert not (tmp_path / "scores.csv").exists()
    again = score_archive(studies, bundle, tmp_path / "scores.csv", batch_size=2, progress=False)
    assert calls == [2, 2, 2, 1]  # the first part is not computed again
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    np.testing.assert_array_equal(again.codes, whole.codes)


def test_parts_of_other_settings_are_not_taken(bundle: ModelBundle, studies: StudySet, tmp_path: Path) -> None:
    folder = tmp_path / ".scores.csv.parts"
    lines = [{"row": 0, "with_report": 9.0, "without_report": 0.0, "codes": [0]}]
    write_table(folder / "shard-00000.parquet", lines, pair_run._PART_SCHEMA, {"fingerprint": "of another bundle"})
    pairs = score_archive(studies, bundle, tmp_path / "scores.csv", progress=False)
    assert 9.0 not in pairs.likelihoods.with_report


def test_another_report_is_of_another_patient_and_says_something_else(bundle: ModelBundle) -> None:
    records = [
        record(0, report="Effusion."),
        record(1, report="Normal chest."),  # the same patient
        record(2, report="effusion"),
        record(4, report="Effusion.", source="nih_cxr14"),
    ]
    for seed in range(5):
        found = other_reports(bundle, records, within_source=False, seed=seed)
        assert found[1] in {pair_prompt(bundle, records[1], text) for text in ("Effusion.", "effusion")}
        assert found[3] in {pair_prompt(bundle, records[3], text) for text in ("Normal chest.", "effusion")}
    assert other_reports(bundle, records, within_source=True, seed=0)[3] is None
    only_own = other_reports(bundle, records[:2], within_source=False, seed=0)
    assert only_own == [None, None]
    assert other_reports(bundle, records, within_source=False, seed=0) == other_reports(
        bundle, records, within_source=False, seed=0
    )


@pytest.mark.parametrize(("effect", "low", "high"), [(1.0, 0.99, 1.0), (0.0, 0.35, 0.65)])
def test_a_planted_effect_is_found_and_none_where_there_is_none(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch, effect: float, low: float, high: float
) -> None:
    num = 120
    records = [
        record(0, image_id=f"i{i}", patient_id=f"p{i // 2}", report=("Effusion.", "Normal chest.")[i // 2 % 2])
        for i in range(num)
    ]
    noise = np.random.default_rng(0).normal(size=(2, num)) / 10
    monkeypatch.setattr(
        pair_run,
        "score_pairs",
        lambda bundle, codes, prompts, **settings: PairLikelihoods(noise[1], settings["without_report"]),
    )
    pairs = pair_run.ScoredPairs(
        records, np.arange(num), np.zeros((num, 16)), PairLikelihoods(noise[0] + effect, np.zeros(num))
    )
    check, within, source = shuffled_checks(bundle, pairs, progress=False)
    assert (check.drawn_from, within.drawn_from, source.drawn_from) == ("any source", "own source", "kermany_pneumonia")
    assert (check.num_pairs, check.num_patients, check.num_left_out) == (num, 60, 0)
    assert check.auroc is not None
    assert low <= check.auroc.estimate <= high
    positive = np.arange(2 * num) < num
    patients = [f"p{i // 2}" for i in range(num)] * 2
    assert check.auroc == auroc_interval(np.concatenate([noise[0] + effect, noise[1]]), positive, patients=patients)
    assert check.flagged == pytest.approx(float((noise[0] + effect < 0).mean()))
    assert check.mean_shuffled_score == pytest.approx(noise[1].mean())


def test_what_cannot_be_scored_is_said(bundle: ModelBundle, studies: StudySet, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="is neither .csv nor .parquet"):
        score_archive(studies, bundle, tmp_path / "scores.xlsx", progress=False)
    with pytest.raises(StudySetError, match="none of 1 studies has a report that describes its image"):
        score_archive(studies, bundle, tmp_path / "scores.csv", split="test", progress=False)
    studies.info = studies.info.model_copy(update={"spec": CanonicalView(modality="cxr", size_px=32)})
    with pytest.raises(EvaluationError, match="of 32 px, the bundle reads cxr views of 16 px: ingest with"):
        score_archive(studies, bundle, tmp_path / "scores.csv", progress=False)


def test_the_command_tells_and_writes(
    bundle_folder: Path, studies_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["score", str(studies_folder), "--bundle", str(bundle_folder), "--out", str(tmp_path / "scores.csv")]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--shuffled-check", "--json", str(tmp_path / "check.json"), "--device", "cpu"])
    told = capsys.readouterr()
    assert ended.value.code == 0, told.err
    assert "5 pairs scored" in told.out
    assert "1 without a report" in told.out
    written = json.loads((tmp_path / "check.json").read_text())
    assert written["counts"]["scored"] == 5
    assert [check["drawn_from"] for check in written["shuffled"]] == ["any source", "own source", "kermany_pneumonia"]
    assert not any(report and report in told.out + told.err for report in REPORTS)
