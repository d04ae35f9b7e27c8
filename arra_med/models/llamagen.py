"""LlamaGen's language models as a `transformers` class; importing this module registers it with the Auto classes.

They are Llama decoders but for two things, both kept from the published weights: rotary positions that count rows and
columns of the image, and a prompt that is embedded by a class table or by a projection of T5 features. So the decoder,
cache and head are `transformers`' own, and only positions and embeddings are written here. A conversion to plain Llama
would not be exact: Llama's positions are one number, and LlamaGen multiplies queries and keys of the prompt by zero.

Source: Sun et al., arXiv 2406.06525, section 2.2; 2D rotary positions as in EVA-02, arXiv 2303.11331.
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel, T5Config
from transformers import T5EncoderModel as TextEncoder
from transformers.cache_utils import Cache

_ROTARY_BASE = 10000.0


class LlamaGenConfig(LlamaConfig):
    """Configuration of a LlamaGen model.

    Attributes:
        grid_rows: Rows of image tokens.
        grid_columns: Columns of image tokens.
        num_prompt_positions: Positions before the image: 1 for a class, 120 for a published caption model.
        num_classes: Of a class-conditional model.
        text_encoder: A `T5Config` as a dictionary, of a caption-conditional model.
    """

    model_type = "llamagen"

    grid_rows: int = 16
    grid_columns: int = 16
    num_prompt_positions: int = 1
    num_classes: int | None = None
    text_encoder: dict[str, Any] | None = None


class GridRotaryEmbedding(nn.Module):
    """Cosines and sines of the angles that queries and keys turn by.

    Of a head's pairs of channels the first half turns with the row, the second half with the column. Positions of the
    prompt get 0 for cosine and sine alike: their queries and keys vanish, so that the prompt is attended to evenly.
    """

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.rows, self.columns = config.grid_rows, config.grid_columns
        self.num_prompt_positions = config.num_prompt_positions
        self.head_width = config.hidden_size // config.num_attention_heads

    @torch.no_grad()
    def forward(self, hidden_states: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Position ids (B, L) -> cosine and sine (B, L, head_width), in the order of channels of `transformers`."""
        half = self.head_width // 2
        steps = torch.arange(0, half, 2, device=position_ids.device, dtype=torch.float32)
        frequencies = _ROTARY_BASE ** -(steps / half)
        place = position_ids - self.num_prompt_positions
        inside = place.clamp(0, self.rows * self.columns - 1)  # what follows the image predicts nothing
        row, column = inside // self.columns, inside % self.columns
        angles = torch.cat([row[..., None] * frequencies, column[..., None] * frequencies], dim=-1)
        angles = torch.cat([angles, angles], dim=-1)
        in_image = (place >= 0)[..., None]
        return (angles.cos() * in_image).to(hidden_states.dtype), (angles.sin() * in_image).to(hidden_states.dtype)


class LlamaGenModel(LlamaModel):
    """The decoder. Ids below `vocab_size` are image tokens and marks; those from there on are prompt tokens.

    Position ids count so that the first image token stands at `num_prompt_positions`; they are found from the ids where
    a whole sequence is given without them.
    """

    config: LlamaGenConfig

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__(config)
        self.rotary_emb = GridRotaryEmbedding(config)
        if config.text_encoder is None:
            self.class_embedding = nn.Embedding((config.num_classes or 0) + 1, config.hidden_size)
        else:
            text_config = T5Config(**config.text_encoder)
            self.text_encoder = TextEncoder(text_config)
            self.caption_in = nn.Linear(text_config.d_model, config.hidden_size, bias=False)
            self.caption_out = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
            self.unconditional = nn.Embedding(config.num_prompt_positions, text_config.d_model)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `LlamaModel.forward`.

        Raises:
            ValueError: If a sequence is continued from a cache, or given as embeddings, without position ids.
        """
        is_start = past_key_values is None or past_key_values.get_seq_length() == 0
        if position_ids is None:
            if input_ids is None or not is_start:
                raise ValueError("positions of a part of a LlamaGen sequence are not known: give position_ids")
            position_ids = self._positions(input_ids)
        if inputs_embeds is None and input_ids is not None:
            inputs_embeds = self.embed_tokens(input_ids.clamp(max=self.config.vocab_size - 1))
            if is_start:
                inputs_embeds = self._with_prompt(inputs_embeds, input_ids, position_ids)
        return super().forward(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )

    def train(self, mode: bool = True) -> "LlamaGenModel":
        """Sets the training mode; the text encoder is frozen and stays in eval mode."""
        super().train(mode)
        if self.config.text_encoder is not None:
            self.text_encoder.eval()
        return self

    def _is_prompt(self, input_ids: torch.Tensor) -> torch.Tensor:
        return (input_ids >= self.config.vocab_size) | (input_ids == self.config.bos_token_id)

    def _positions(self, input_ids: torch.Tensor) -> torch.Tensor:
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)
        image_start = (self._is_prompt(input_ids) * (columns + 1)).amax(dim=1, keepdim=True)
        return (columns - image_start + self.config.num_prompt_positions).clamp(min=0)

    def _with_prompt(
        self, embeddings: torch.Tensor, input_ids: torch.Tensor, position_ids: torch.Tensor
    ) -> torch.Tensor:
        is_prompt, is_text = self._is_prompt(input_ids), input_ids >= self.config.vocab_size
        text_ids = (input_ids - self.config.vocab_size).clamp(min=0)
        if self.config.text_encoder is None:
            prompt = self.class_embedding(torch.where(is_text, text_ids, self.config.num_classes or 0))
        else:
            places = position_ids.expand_as(input_ids).clamp(0, self.config.num_prompt_positions - 1)
            features = self.unconditional(places)
            if bool(is_text.any()):
                features = features.clone()
                features[is_text] = self._text_features(text_ids, is_text).to(features.dtype)
            prompt = self.caption_out(nn.functional.gelu(self.caption_in(features), approximate="tanh"))
        return torch.where(is_prompt[..., None], prompt.to(embeddings.dtype), embeddings)

    @torch.no_grad()
    def _text_features(self, text_ids: torch.Tensor, is_text: torch.Tensor) -> torch.Tensor:
        """The text encoder's last hidden states (N, width) of the N text tokens, row after row."""
        rows = is_text.any(dim=1)
        text_ids, is_text = text_ids[rows], is_text[rows]
        order = (~is_text).int().argsort(dim=1, stable=True)[:, : int(is_text.sum(dim=1).max())]
        mask = is_text.gather(1, order)
        encoded = self.text_encoder(input_ids=text_ids.gather(1, order), attention_mask=mask.long()).last_hidden_state
        features: torch.Tensor = encoded[mask]
        return features


class LlamaGenForCausalLM(LlamaForCausalLM):
    """The decoder with its head over image tokens and marks."""

    config: LlamaGenConfig

    def __init__(self, config: LlamaGenConfig) -> None:
        super(LlamaForCausalLM, self).__init__(config)
        self.model = LlamaGenModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def requires_grad_(self, requires_grad: bool = True) -> "LlamaGenForCausalLM":
        """Freezes or frees the weights; the text encoder stays frozen."""
        super().requires_grad_(requires_grad)
        if self.config.text_encoder is not None:
            self.model.text_encoder.requires_grad_(False)
        return self


AutoConfig.register("llamagen", LlamaGenConfig, exist_ok=True)
AutoModelForCausalLM.register(LlamaGenConfig, LlamaGenForCausalLM, exist_ok=True)
