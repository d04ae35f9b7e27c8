"""A planted model that reads one word and provably no other; the rule, the correction, and the files."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from arra_med.errors import EvaluationError
from arra_med.evaluate.phrase_effect import explain, holm, phrase_effects, stream_explanation
from arra_med.evaluate.phrase_page import marked_prompt, save_explanation
from arra_med.generate.session import GenerationRequest, GenerationResult, GenerationUpdate, ReportToImage
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.records.phrases import prompt_phrases
from arra_med.records.report import report_prompt
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.tokens.vq import VQConfig, VQTokenizer

VOCABULARY = ImageVocabulary(bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=20, codebook_size=12, vocab_size=40)
READ, OTHER = 5, 6  # "shadow" is read, "odd" is not
REPORT = "PA view. Shadow. Odd. Pleural effusion of Zzyzx."
REQUEST = GenerationRequest(report=REPORT, modality="cxr", num_images=8)


class Planted(torch.nn.Module):
    """Draws from one distribution of codes if the word was read, from another one if not; nothing else matters."""

    config, device, dtype, training = SimpleNamespace(), torch.device("cpu"), torch.float32, False

    def __init__(self, read_id: int = READ) -> None:
        super().__init__()
        self.read_id = read_id
        self.logits = torch.randn(2, 12, generator=torch.Generator().manual_seed(0)) * 0.5
        self.head = torch.nn.Linear(12, 40, bias=False)
        with torch.no_grad():
            self.head.weight.zero_()[20:32] = torch.eye(12)

    @property
    def base_model(self) -> Any:
        return lambda input_ids, **_: SimpleNamespace(
            last_hidden_state=self.logits[((input_ids == self.read_id).cumsum(dim=1) > 0).long()]
        )

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head


class Drawn(ReportToImage):
    """Draws codes from the planted distribution of a prompt with the word."""

    def stream(self, request: GenerationRequest, *_: Any, **__: Any) -> Iterator[GenerationUpdate]:
        prompt = self.prompt(request)
        row = self.bundle.model.logits[int(self.bundle.model.read_id in self.reader.token_ids(prompt))].softmax(0)
        generator = torch.Generator().manual_seed(request.seed)
        codes = torch.multinomial(row.expand(request.num_images, 12), 16, True, generator=generator).view(-1, 4, 4)
        result: GenerationResult = self.finish(request, codes)
        yield GenerationUpdate(0.5, result.images, prompt)
        yield GenerationUpdate(1.0, result.images, prompt, True, result)


def session(read_id: int = READ) -> Drawn:
    vocabulary = {"[UNK]": 4, "shadow": READ, "odd": OTHER, "pa": 7}
    words = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = Lowercase(), Whitespace()
    torch.manual_seed(1)
    info = BundleInfo(
        name="planted",
        variant="arra",
        layout=SequenceLayout(vocabulary=VOCABULARY, grid=(4, 4), max_text_tokens=40),
        canonical_view=CanonicalView(modality="cxr", size_px=16),
        licence_class="open",
        sources=(),
        attributions={},
        label_counts={},
        training={},
    )
    vq = VQTokenizer(VQConfig(size_px=16, downsampling=4, width=32, max_width=32, levels=(4, 3))).eval()
    bundle = ModelBundle(Planted(read_id), PreTrainedTokenizerFast(tokenizer_object=words), vq, info, "ab" * 32)
    return Drawn(bundle, backend="transformers")


def test_the_word_that_is_read_has_an_effect_and_the_others_have_exactly_none():
    found = explain(session(), REQUEST)
    assert {effect.text: effect.has_effect for effect in found.effects} == {
        "PA view": False,
        "Shadow": True,
        "Odd": False,
        "Pleural effusion of Zzyzx": False,
    }
    assert len(found.paraphrase_changes) == 19
    assert found.noise == 0
    for effect in found.effects:
        if not effect.has_effect:
            assert (effect.change.estimate, effect.change.low, effect.change.high, effect.p_value) == (0, 0, 0, 1)
    # Left out, the codes follow the other row: the fall is the difference of the two rows' log-likelihoods.
    rows = session().bundle.model.logits.double().log_softmax(dim=1)
    falls = (rows[1] - rows[0])[found.result.codes.flatten(1)].sum(dim=1)
    shadow = next(effect for effect in found.effects if effect.text == "Shadow")
    assert shadow.change.estimate == pytest.approx(float(falls.mean()), abs=1e-5)
    assert found.text_change is not None
    assert found.text_change.estimate == pytest.approx(shadow.change.estimate)


def test_another_word_planted_is_the_one_that_is_found():
    effects = explain(session(OTHER), REQUEST).effects
    assert [effect.text for effect in effects if effect.has_effect] == ["Odd"]


def test_a_model_that_reads_nothing_ignores_every_phrase():
    assert not any(effect.has_effect for effect in explain(session(read_id=19), REQUEST).effects)


def test_a_phrase_must_exceed_the_farthest_paraphrase_by_more_than_the_spread():
    prompt = report_prompt("PA view. Effusion.", modality="cxr")
    phrases = prompt_phrases(prompt, "cxr")
    noise = np.array([[0.1, 0.2, 0.1, 0.2], [1.0, 1.4, 0.6, 1.0], [0.0, 0.0, 0.0, 0.0]])
    falls = np.array([[3.1, 3.3, 2.8, 3.0], [1.5, 0.6, 2.0, 0.7]])
    (view, effusion), means = phrase_effects(prompt, phrases, falls, noise)
    assert means == pytest.approx((0.0, 0.15, 1.0))
    assert view.beyond_noise == pytest.approx(2.05)
    assert view.has_effect
    assert effusion.change.estimate == pytest.approx(1.2)  # above the noise of 1, but within its spread
    assert not effusion.has_effect


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_record_and_page_tell_the_same_and_the_record_holds_no_words(tmp_path: Path):
    found = explain(session(), REQUEST)
    files = save_explanation(found, tmp_path)
    assert [file.name for file in files[-2:]] == ["explanation.json", "explanation.html"]
    told = json.loads(files[-2].read_text())["what_the_model_ignored"]
    assert [phrase["has_effect"] for phrase in told["phrases"]] == [False, True, False, False]
    assert json.loads(files[1].read_text())["what_the_model_ignored"] == told
    assert all(b"Zzyzx" not in file.read_bytes() for file in files[:-1])
    page = files[-1].read_text()
    assert "<mark>Shadow</mark>" in page
    assert "<s>Pleural effusion of Zzyzx</s>" in page
    assert files[-1].stat().st_mode & 0o777 == 0o600
    kept = save_explanation(found, tmp_path / "kept", include_report=True)[-2]
    assert "Pleural effusion of Zzyzx" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_the_parts_of_the_prompt_are_the_prompt():
    found = explain(session(), REQUEST)
    parts = marked_prompt(found)
    assert "".join(words for words, _ in parts) == found.result.prompt.text
    assert [words for words, has_effect in parts if has_effect] == ["Shadow"]


def test_progress_grows_and_bad_requests_are_one_sentence():
    shares = [update.progress for update in stream_explanation(session(), REQUEST)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    for changes, sentence in (
        ({"num_images": 3}, "3 images tell an effect from chance too badly: ask for at least 4"),
        ({"report": "PA view."}, "0 other wordings of this report are known"),
        ({"report": "Chest radiograph."}, "says nothing that could be left out"),
    ):
        with pytest.raises(EvaluationError, match=sentence):
            next(stream_explanation(session(), REQUEST.model_copy(update=changes)))


def test_few_wordings_are_told():
    found = explain(session(), REQUEST.model_copy(update={"report": "Odd."}))
    assert "Only 5 other wordings of this report are known" in found.notices[0]
