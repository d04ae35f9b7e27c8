"""Judges and images for the tests of this room: one random convolution, and smooth gray pictures."""

import numpy as np
import torch
from torch import Tensor, nn

from arra_med.encoders.base import EncoderFeatures, FrozenEncoder, Preprocessing, features_from_map


class TinyJudge(FrozenEncoder):
    """One random convolution, 8 features.

    Args:
        std: Of its preprocessing.
        seed: Of its weights.
        factor: Multiplies its features.
    """

    def __init__(self, std: float = 0.25, seed: int = 0, factor: float = 1.0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = nn.Conv2d(3, 8, kernel_size=4, stride=4)
        self.factor = factor
        super().__init__("tiny-judge", network, Preprocessing((16, 16), (0.5, 0.5, 0.5), (std, std, std)))

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        return features_from_map(torch.relu(self.network(pixels)) * self.factor)


def smooth_images(num: int, seed: int, brightness: int = 0, size: int = 16) -> np.ndarray:
    """Returns uint8 (num, 1, size, size)."""
    rng = np.random.default_rng(seed)
    smooth = rng.normal(0, 25, (num, 1, 4, 4)).repeat(size // 4, axis=2).repeat(size // 4, axis=3)
    noise = rng.normal(0, 12, (num, 1, size, size))
    return np.asarray(np.clip(smooth + noise + 110 + brightness, 0, 255).astype(np.uint8))
