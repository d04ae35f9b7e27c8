"""A pretrained model's text vocabulary, cut to what reports need: fewer rows to store, to multiply and to learn against."""

import json
from collections.abc import Iterable
from typing import Any

import torch

from arra_med.errors import BundleError


def prune_text_vocabulary(model: Any, text_tokenizer: Any, num_tokens: int, sentences: Iterable[str]) -> Any:
    """Keeps `num_tokens` rows of a model's text vocabulary, in place, and returns the tokenizer that goes with them.

    Kept are the special tokens, the byte alphabet, every token that the sentences use with all those it was merged
    from, and then the earliest merges, which are the most frequent ones. The sentences are cut into the same tokens as
    before, any other text still has tokens, and each token keeps its row.

    Args:
        model: A `transformers` causal LM; its embedding, and its head where that is not tied, lose rows.
        text_tokenizer: Its tokenizer, a byte-level BPE.
        num_tokens: Tokens to keep; more are kept where the sentences need more.
        sentences: Text that must stay as it is.

    Raises:
        BundleError: If the tokenizer is of another kind.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    described = json.loads(text_tokenizer.backend_tokenizer.to_str())
    bpe, added = described["model"], described["added_tokens"]
    if bpe["type"] != "BPE" or bpe.get("byte_fallback") or (described["decoder"] or {}).get("type") != "ByteLevel":
        raise BundleError(
            "start.text_vocab_size cuts a byte-level BPE, and this model's tokenizer is another: leave it out"
        )
    ids: dict[str, int] = bpe["vocab"]
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in bpe["merges"]]
    parts = {left + right: (left, right) for left, right in reversed(merges)}  # the earliest merge of a token counts
    kept = {token for token in ids if token not in parts}
    kept |= {token["content"] for token in added}
    for sentence in sorted(set(sentences)):
        kept.update(text_tokenizer.tokenize(sentence))
    waiting = list(kept)
    while waiting:
        for part in parts.get(waiting.pop(), ()):
            if part not in kept:
                kept.add(part)
                waiting.append(part)
    for left, right in merges:
        if len(kept) >= num_tokens:
            break
        if left in kept and right in kept:
            kept.add(left + right)
    old_ids = {token["content"]: token["id"] for token in added} | ids
    old_rows = sorted(old_ids[token] for token in kept)
    new_ids = {old: new for new, old in enumerate(old_rows)}
    bpe["vocab"] = {token: new_ids[old] for token, old in ids.items() if token in kept}
    bpe["merges"] = [list(merge) for merge in merges if {*merge, "".join(merge)} <= kept]
    for token in added:
        token["id"] = new_ids[token["id"]]
    for special in ((described["post_processor"] or {}).get("special_tokens") or {}).values():
        special["ids"] = [new_ids[old] for old in special["ids"]]
    _keep_rows(model, old_rows)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)), **text_tokenizer.special_tokens_map
    )


@torch.no_grad()
def _keep_rows(model: Any, rows: list[int]) -> None:
    kept = []
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        bias = getattr(layer, "bias", None)
        kept.append((layer.weight[rows].clone(), None if bias is None else bias[rows].clone()))
    with torch.random.fork_rng(devices=[]):  # transformers may draw rows, which are overwritten below
        model.resize_token_embeddings(len(rows), mean_resizing=False)
    for layer, (weight, bias) in zip((model.get_input_embeddings(), model.get_output_embeddings()), kept, strict=True):
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
