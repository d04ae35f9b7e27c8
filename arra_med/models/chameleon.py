"""Chameleon as a causal language model whose image logits can be used; importing this module registers it.

`transformers`' class sets the logits of image tokens to the smallest number, and carries the encoder half of the image
tokenizer. This subclass does neither: a bundle has an image tokenizer of its own, and every parameter of the language model
takes part in training. Weights, names and configuration stay `transformers`', so that its own
`ChameleonForConditionalGeneration` opens a bundle too (and fills its unused encoder at random).

Source: Chameleon, arXiv 2405.09818.
"""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, ChameleonConfig, ChameleonForConditionalGeneration
from transformers.modeling_outputs import CausalLMOutputWithPast


class ChameleonForCausalLM(ChameleonForConditionalGeneration):
    """Chameleon's decoder with its whole head; what a file holds of the image tokenizer is left there."""

    config: ChameleonConfig
    _keys_to_ignore_on_load_unexpected = (r"^model\.vqmodel\.",)

    def __init__(self, config: ChameleonConfig) -> None:
        super().__init__(config)
        del self.model.vqmodel

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As a causal LM of `transformers`: logits (B, L, vocab_size), and the loss where there are labels.

        Args:
            input_ids: int64 (B, L).
            labels: int64 (B, L), shifted here; -100 is left out.
            logits_to_keep: Of the last positions only; 0 for all.
            kwargs: Mask, positions, cache and embeddings, as the decoder takes them.
        """
        outputs = self.model(input_ids=input_ids, **kwargs)
        logits = self.lm_head(outputs.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=outputs.past_key_values)


AutoModelForCausalLM.register(ChameleonConfig, ChameleonForCausalLM, exist_ok=True)
