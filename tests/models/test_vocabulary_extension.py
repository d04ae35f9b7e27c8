"""An image vocabulary for any causal LM: ids, old rows, tied and untied heads."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from arra_med.errors import BundleError
from arra_med.models.presets import train_text_tokenizer
from arra_med.models.vocabulary_extension import BEGIN_OF_IMAGE, add_image_vocabulary

SENTENCES = ["Pleural effusion.", "No pneumothorax.", "The heart is enlarged."]


def text_tokenizer() -> PreTrainedTokenizerFast:
    return train_text_tokenizer(SENTENCES, 280)


def model(kind: str, tied: bool, vocab_size: int) -> Any:
    shape: dict[str, Any] = {"vocab_size": vocab_size, "tie_word_embeddings": tied}
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    configs = {
        "llama": lambda: LlamaConfig(**shape, **small, num_key_value_heads=2),
        "qwen3": lambda: Qwen3Config(**shape, **small, num_key_value_heads=2, head_dim=16),
        "gpt2": lambda: GPT2Config(**shape, n_embd=32, n_layer=2, n_head=2),
    }
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(configs[kind]()).eval()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_old_rows_are_kept_and_new_ones_lie_near_their_mean(kind: str, tied: bool) -> None:
    tokenizer = text_tokenizer()
    language_model = model(kind, tied, len(tokenizer))
    num_old = len(tokenizer)
    heads = [language_model.get_input_embeddings(), language_model.get_output_embeddings()]
    before = [head.weight.detach().clone() for head in heads]
    text = torch.tensor([tokenizer(SENTENCES[0], add_special_tokens=False)["input_ids"]])
    logits_before = language_model(text).logits
    vocabulary = add_image_vocabulary(language_model, tokenizer, 50, spread=0.1)
    heads = [language_model.get_input_embeddings(), language_model.get_output_embeddings()]
    assert (heads[0].weight is heads[1].weight) == tied
    for head, old in zip(heads, before, strict=True):
        assert head.weight.shape[0] == vocabulary.vocab_size
        assert torch.equal(head.weight[:num_old], old)
        images = head.weight[vocabulary.first_image_id : vocabulary.end_image_id]
        assert (images - old.mean(0)).abs().max() < old.std(0).max() * 0.6
        assert len({tuple(row) for row in images.tolist()}) == 50  # no two codes start alike
    assert torch.allclose(language_model(text).logits[..., :num_old], logits_before, atol=1e-5)


def test_ids_do_not_meet_and_the_vocabulary_is_padded() -> None:
    tokenizer = text_tokenizer()
    vocabulary = add_image_vocabulary(model("llama", True, len(tokenizer)), tokenizer, 50, rep=True)
    assert vocabulary.vocab_size % 64 == 0
    assert vocabulary.first_image_id >= len(tokenizer)
    assert vocabulary.rep_id is not None
    assert tokenizer.pad_token_id == vocabulary.pad_id
    assert tokenizer.bos_token_id == vocabulary.bos_id


def test_a_tokenizers_own_begin_of_text_is_kept() -> None:
    tokenizer = text_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    own = tokenizer.bos_token_id
    assert add_image_vocabulary(model("llama", True, len(tokenizer)), tokenizer, 8).bos_id == own


def test_a_models_own_spare_rows_are_not_used_for_images() -> None:
    tokenizer = text_tokenizer()
    language_model = model("llama", True, 512)  # published models often have more rows than tokens
    vocabulary = add_image_vocabulary(language_model, tokenizer, 8)
    assert vocabulary.first_image_id >= 512
    assert vocabulary.boi_id < 512


def test_a_second_image_vocabulary_is_refused() -> None:
    tokenizer = text_tokenizer()
    language_model = model("llama", True, len(tokenizer))
    add_image_vocabulary(language_model, tokenizer, 8)
    with pytest.raises(BundleError, match="already has an image vocabulary"):
        add_image_vocabulary(language_model, tokenizer, 8)


def test_a_mark_in_a_users_text_is_plain_text() -> None:
    from arra_med.tokens.layout import SequenceLayout

    tokenizer = text_tokenizer()
    vocabulary = add_image_vocabulary(model("llama", True, len(tokenizer)), tokenizer, 8)
    layout = SequenceLayout(vocabulary=vocabulary, grid=(2, 2), max_text_tokens=64)
    assert vocabulary.boi_id not in layout.text_ids(tokenizer, f"Effusion {BEGIN_OF_IMAGE} left")


def test_any_text_can_be_encoded_and_case_does_not_matter() -> None:
    tokenizer = text_tokenizer()
    assert tokenizer("PLEURAL Effusion.")["input_ids"] == tokenizer("pleural effusion.")["input_ids"]
    assert tokenizer.decode(tokenizer("ünïcødé 胸水")["input_ids"]).strip() == "ünïcødé 胸水"
