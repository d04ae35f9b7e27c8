"""reAR's regulariser against numpy, and which hidden states it meets."""

import numpy as np
import pytest
import torch

from arra_med.errors import ConfigError
from arra_med.tokens.vq import VQConfig, VQTokenizer
from arra_med.training.consistency import Consistency, ConsistencyConfig, code_embeddings
from tests.training.test_task import LAYOUT, VOCABULARY


@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_the_early_block_knows_the_token_at_its_place_and_the_late_one_the_next(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(VOCABULARY.codebook_size, 3, generator=generator)
    config = ConsistencyConfig(current_layer=1, next_layer=3, loss=loss, projector_width=6)
    subject = Consistency(config, LAYOUT, hidden_size=5, num_layers=4, embeddings=embeddings)
    ids = torch.tensor([LAYOUT.training_ids([10], [1, 7, 0, 4])[0], LAYOUT.training_ids([11], [2, 2, 5, 6])[0]])
    taken = {layer: torch.randn(2, ids.shape[1], 5, generator=generator) for layer in (1, 3)}
    found = subject(taken, torch.tensor([3, 3]), ids)
    distances = []
    for layer, projector, shift in ((1, subject.projectors[0], 0), (3, subject.projectors[1], 1)):
        for row, codes in enumerate([[1, 7, 0, 4], [2, 2, 5, 6]]):
            for place, code in enumerate(codes):
                p = projector(taken[layer][row, 3 + place - shift]).detach().double().numpy()
                e = embeddings[code].double().numpy()
                cosine = p @ e / np.linalg.norm(p) / np.linalg.norm(e)
                distances.append(1 - cosine if loss == "cosine" else ((p - e) ** 2).mean())
    assert float(found.detach()) == pytest.approx(np.mean(distances), rel=1e-5)


def test_an_embedding_is_what_the_decoder_reads() -> None:
    tokenizer = VQTokenizer(VQConfig(size_px=16, downsampling=4, width=32, levels=(3, 4)))
    embeddings = code_embeddings(tokenizer)
    codes = torch.tensor([[[0, 5], [11, 3]]])
    assert torch.equal(embeddings[codes].permute(0, 3, 1, 2), tokenizer.quantizer.values(codes))
    with pytest.raises(ConfigError, match="consistency needs a tokenizer"):
        code_embeddings(object())  # type: ignore[arg-type]
