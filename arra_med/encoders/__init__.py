"""Frozen vision encoders: teachers for training, judges for evaluation."""

from arra_med.encoders.config import EncoderConfig, load_encoder

__all__ = ["EncoderConfig", "load_encoder"]
