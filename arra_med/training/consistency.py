"""The embedding regulariser of reAR: hidden states that know how the image tokenizer embeds the tokens around them.

Source: He et al., "reAR: Rethinking Visual Autoregressive Models via Generator-Tokenizer Consistency Regularization",
arXiv 2510.04450. Its other half, a noisy context, is `token_noise`.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import nn

from arra_med.config import StrictModel
from arra_med.tokens.layout import SequenceLayout
from arra_med.training.alignment import Layer, Projector, at_positions, resolve_layer
from arra_med.training.losses import AlignmentKind, alignment_loss


class ConsistencyConfig(StrictModel):
    """Settings of the regulariser.

    Attributes:
        weight: Its weight beside the token loss.
        current_layer: Decoder block, early, whose output tells the embedding of the token that stands there.
        next_layer: Decoder block, late, whose output tells the embedding of the token that comes next.
        loss: Cosine distance (the paper) or mean squared error.
        projector_width: Width of the projectors' hidden layer.
        seed: Of the projectors.
    """

    weight: float = Field(default=1.0, gt=0)
    current_layer: Layer = 1
    next_layer: Layer = 0.75
    loss: AlignmentKind = "cosine"
    projector_width: int = Field(default=512, gt=0)
    seed: int = 0


class Consistency(nn.Module):
    """The regulariser of one training: two projectors, dropped afterwards, and the tokenizer's embeddings.

    Args:
        config: The settings.
        layout: Layout of the sequences, the only source of positions.
        hidden_size: Width of the language model's hidden states.
        num_layers: Its decoder blocks.
        codebook: (codebook_size, D), how the tokenizer embeds each code.

    Attributes:
        layers: Numbers of the two blocks, counted from 1.
    """

    codebook: torch.Tensor

    def __init__(
        self,
        config: ConsistencyConfig,
        layout: SequenceLayout,
        hidden_size: int,
        num_layers: int,
        codebook: torch.Tensor,
    ) -> None:
        super().__init__()
        self.config, self.layout = config, layout
        self.layers = [resolve_layer(layer, num_layers) for layer in (config.current_layer, config.next_layer)]
        self.register_buffer("codebook", codebook.detach().float(), persistent=False)
        generator = torch.Generator().manual_seed(config.seed)
        self.projectors = nn.ModuleList(
            Projector(hidden_size, config.projector_width, codebook.shape[1], generator) for _ in self.layers
        )

    def forward(
        self, taken: Mapping[int, torch.Tensor], image_start: torch.Tensor, input_ids: torch.Tensor
    ) -> torch.Tensor:
        """Returns the mean of both distances.

        Args:
            taken: (B, L, hidden_size) output of each of the two blocks, by its number.
            image_start: (B,) position of each row's first image token.
            input_ids: (B, L) the right tokens, also where the model saw noise.
        """
        places = image_start[:, None] + torch.tensor(list(self.layout.image_offsets), device=image_start.device)
        wanted = self.codebook[self.layout.vocabulary.codes(input_ids.gather(1, places))]
        losses = [
            alignment_loss(projector(at_positions(taken[layer], places - shift)), wanted, self.config.loss)
            for layer, projector, shift in zip(self.layers, self.projectors, (0, 1), strict=True)
        ]
        return torch.stack(losses).mean()
