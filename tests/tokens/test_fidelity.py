"""What is measured of decoded images: values worked out by hand."""

import pytest
import torch

from arra_med.tokens.fidelity import psnr_db


def test_psnr_of_an_error_of_a_tenth_is_20_db() -> None:
    images = torch.zeros(2, 1, 4, 4)
    assert psnr_db(images + 0.1, images).tolist() == pytest.approx([20, 20], abs=1e-4)
