"""Inception v3 as FID was defined on it: torch-fidelity's network and weights file.

Source: torch-fidelity 0.4, `FeatureExtractorInceptionV3` and `weights-inception-2015-12-05-6726825d.pth`; Heusel et al.,
arXiv 1706.08500. timm's `inception_v3` is another network: its numbers are not comparable with published FIDs.
"""

import importlib
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from arra_med.encoders.base import EncoderFeatures, FrozenEncoder, Preprocessing, check_views, features_from_map
from arra_med.encoders.published_file import published_file
from arra_med.errors import EncoderError
from arra_med.published_weights import read_published_weights

FILES = ("weights-inception-2015-12-05-6726825d.pth",)
_SIZE_PX = 299
_POOLED = "2048"
_UNCHANGED = Preprocessing((_SIZE_PX, _SIZE_PX), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear")


class InceptionEncoder(FrozenEncoder):
    """Inception v3: `mean` is the 2048-wide pooled feature of FID, `patch` the last map; no `cls`.

    Views keep their size: the network itself resizes 8-bit levels to 299 px, as TensorFlow 1 did.
    """

    def preprocess(self, views: Tensor) -> Tensor:
        """Returns the 8-bit levels of views as float32 (B, 3, S, S); see `FrozenEncoder.preprocess`."""
        check_views(views)
        return (views.to(self.mean.device, torch.float32) * 255).round().expand(-1, 3, -1, -1)

    def encode_pixels(self, pixels: Tensor) -> EncoderFeatures:
        """Runs the network on 8-bit levels (B, 3, S, S)."""
        maps: list[Tensor] = []
        last: nn.Module = self.network.Mixed_7c  # type: ignore[assignment]
        hook = last.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
        try:
            (pooled,) = self.network(pixels.to(torch.uint8))
        finally:
            hook.remove()
        features = features_from_map(maps[0])
        return EncoderFeatures(cls=None, mean=pooled.float(), patch=features.patch, grid=features.grid)


def load_inception_encoder(model: str) -> InceptionEncoder:
    """Builds torch-fidelity's network with its weights.

    Args:
        model: The weights file, or its folder.

    Raises:
        EncoderError: If torch-fidelity is not installed, the file is missing, cannot be read without running its code,
            or is of another architecture.
    """
    path = published_file(model, "Inception v3", FILES, "the releases of torch-fidelity on GitHub")
    state = read_published_weights(path, (), EncoderError)
    try:
        library = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ImportError:
        raise EncoderError("Inception v3 needs the package torch-fidelity: run pip install torch-fidelity") from None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "weights.pth"
        torch.save(state, copy)  # the library would run the code of whatever file it is given; this one holds tensors
        try:
            network = library.FeatureExtractorInceptionV3(
                "inception", [_POOLED], feature_extractor_weights_path=str(copy)
            )
        except RuntimeError as error:
            problem = " ".join(str(error).splitlines()[1:2]).strip()[:200]
            raise EncoderError(f"{path}: is of another architecture than Inception v3 of FID ({problem})") from None
    return InceptionEncoder(f"inception:{path.stem}", network, _UNCHANGED)
