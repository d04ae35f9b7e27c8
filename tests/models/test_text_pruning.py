"""A cut text vocabulary: the training texts stay as they are, and every token keeps its row."""

import json
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from arra_med.errors import BundleError
from arra_med.models.presets import train_text_tokenizer
from arra_med.models.text_pruning import prune_text_vocabulary
from arra_med.models.vocabulary_extension import add_image_vocabulary
from tests.models.test_vocabulary_extension import model

WORDS = [
    "Pleural effusion.",
    "The heart is enlarged.",
    "No pneumothorax is seen.",
    "Bones are intact, lungs are clear.",
]
REPORTS = ["No effusion is seen.", "The heart is clear."]


def text_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = train_text_tokenizer(WORDS * 4, 420)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return tokenizer


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_reports_keep_their_tokens_and_every_token_its_row(kind: str, tied: bool) -> None:
    before = text_tokenizer()
    language_model = model(kind, tied, len(before))
    ids = before(REPORTS[0], add_special_tokens=False)["input_ids"]
    rows = language_model.get_input_embeddings().weight.detach().clone()
    logits = language_model(torch.tensor([ids])).logits[0]
    after = prune_text_vocabulary(language_model, before, 300, REPORTS)
    assert len(after) < len(before)
    assert language_model.get_input_embeddings().weight.shape[0] == language_model.config.vocab_size == len(after)
    assert (language_model.get_output_embeddings().weight is language_model.get_input_embeddings().weight) == tied
    for report in REPORTS:
        assert after.tokenize(report) == before.tokenize(report)
    old_vocab, new_vocab = before.get_vocab(), after.get_vocab()
    kept = [old_vocab[token] for token, _ in sorted(new_vocab.items(), key=lambda item: item[1])]
    assert torch.equal(language_model.get_input_embeddings().weight, rows[kept])
    cut = language_model(torch.tensor([after(REPORTS[0], add_special_tokens=False)["input_ids"]])).logits[0]
    assert torch.allclose(cut, logits[:, kept], atol=1e-6)


def test_other_text_still_has_tokens_and_comes_back_unchanged(tmp_path: Any) -> None:
    before = text_tokenizer()
    language_model = model("llama", True, len(before))
    after = prune_text_vocabulary(language_model, before, 300, REPORTS)
    text = "naïve pneumothorax 42 ☂"
    assert after.decode(after(text, add_special_tokens=False)["input_ids"]).strip() == text
    assert (after.bos_token, after.eos_token) == ("<s>", "</s>")
    vocabulary = add_image_vocabulary(language_model, after, 50)
    assert vocabulary.bos_id == after.convert_tokens_to_ids("<s>")
    after.save_pretrained(tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert opened(text)["input_ids"] == after(text)["input_ids"]


def test_more_is_kept_where_the_reports_need_more_and_the_earliest_merges_fill_up() -> None:
    before = text_tokenizer()
    needed = prune_text_vocabulary(model("llama", True, len(before)), before, 1, REPORTS)
    filled = prune_text_vocabulary(model("llama", True, len(before)), before, len(needed) + 10, REPORTS)
    assert set(needed.get_vocab()) < set(filled.get_vocab())
    assert len(filled) == len(needed) + 10
    merges = json.loads(before.backend_tokenizer.to_str())["model"]["merges"]
    filling = set(filled.get_vocab()) - set(needed.get_vocab())
    first_left_out = next(i for i, merge in enumerate(merges) if "".join(merge) not in filled.get_vocab())
    assert max(i for i, merge in enumerate(merges) if "".join(merge) in filling) < first_left_out


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    from tokenizers.models import WordLevel

    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(BundleError, match="text_vocab_size cuts a byte-level BPE"):
        prune_text_vocabulary(model("llama", True, 4), words, 2, [])
