"""The judge without labels: a convolutional autoencoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arra_med.encoders.autoencoder import AutoencoderShape, ConvolutionalAutoencoder, save_autoencoder
from arra_med.imaging.view import CanonicalView
from arra_med.tokens.fidelity import psnr_db
from arra_med.training.encoder_data import EncoderImages
from arra_med.training.encoder_settings import AutoencoderSettings
from arra_med.training.encoder_task import (
    MEAN,
    STD,
    EncoderTask,
    evaluation_batches,
    normalised,
    start_network,
)


class AutoencoderTask(EncoderTask):
    """Trains encoder and decoder with the mean absolute difference of the pixels."""

    network: ConvolutionalAutoencoder
    label_source = "none: the images alone"
    uses_labels = False

    def __init__(self, settings: AutoencoderSettings, spec: CanonicalView, device: str) -> None:
        self.device = device
        shape = AutoencoderShape(size_px=spec.size_px, channels=spec.channels, widths=settings.widths)
        self.network = ConvolutionalAutoencoder(shape).to(device)
        self.initialisation, self.initialisation_sha256 = start_network(self.network, None)

    def loss(self, images: Tensor, indices: Sequence[int], step: int) -> Tensor:
        """Mean absolute difference, in [-1, 1]; see `EncoderTask.loss`."""
        pixels = normalised(images, images.shape[1])
        return (self.network(pixels).float() - pixels).abs().mean()

    @torch.no_grad()
    def measure(self, held_out: EncoderImages) -> dict[str, Any]:
        """PSNR of the reconstruction."""
        self.network.eval()
        each = []
        for images in evaluation_batches(held_out, self.device):
            decoded = self.network(normalised(images, images.shape[1])) * STD + MEAN
            each.append(psnr_db(decoded.clamp(0, 1), images))
        self.network.train()
        psnr = float(torch.cat(each).mean())
        return {"headline": {"psnr_db": psnr}, "reconstruction": {"psnr_db": psnr, "num_images": len(held_out)}}

    def save(self, folder: Path) -> None:
        """Writes the layout of `arra_med.encoders.autoencoder`."""
        save_autoencoder(self.network, folder)
