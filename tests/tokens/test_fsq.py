"""Finite scalar quantisation against numbers worked out by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from arra_med.tokens.fsq import FiniteScalarQuantizer


def test_codes_are_mixed_radix_numbers_with_the_first_channel_fastest() -> None:
    quantizer = FiniteScalarQuantizer((4, 3))
    # four levels lie at -1, -0.5, 0, 0.5 (the even case is off centre), three at -1, 0, 1
    expected = {0: (-1.0, -1.0), 1: (-0.5, -1.0), 3: (0.5, -1.0), 4: (-1.0, 0.0), 11: (0.5, 1.0)}
    for code, values in expected.items():
        assert quantizer.values(torch.tensor([[[code]]])).flatten().tolist() == list(values)


def test_rounding_by_hand() -> None:
    quantizer = FiniteScalarQuantizer((3,))
    latent = torch.tensor([-3.0, -0.2, 0.0, 0.3, 3.0]).reshape(1, 1, 1, 5)
    # tanh(3) = 0.995 rounds to 1, tanh(0.3) = 0.29 rounds to 0
    assert quantizer(latent).flatten().tolist() == [-1.0, 0.0, 0.0, 0.0, 1.0]
    assert quantizer.codes(latent).flatten().tolist() == [0, 1, 1, 1, 2]


@given(st.lists(st.integers(3, 9), min_size=1, max_size=4))
def test_every_code_is_its_own_value_and_no_code_lies_outside(levels: list[int]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    codes = torch.arange(quantizer.codebook_size).reshape(1, 1, -1)
    values = quantizer.values(codes)
    assert len({tuple(column) for column in values[0, :, 0].T.tolist()}) == quantizer.codebook_size
    latent = torch.randn(1, len(levels), 8, 8, generator=torch.Generator().manual_seed(0)) * 5
    found = quantizer.codes(latent)
    assert 0 <= int(found.min()) <= int(found.max()) < quantizer.codebook_size
    assert torch.allclose(quantizer.values(found), quantizer(latent), atol=1e-6)


def test_the_gradient_passes_straight_through() -> None:
    latent = torch.tensor([[[[0.1]], [[-0.4]]]], requires_grad=True)
    FiniteScalarQuantizer((8, 5))(latent).sum().backward()
    assert latent.grad is not None
    assert (latent.grad > 0).all()
