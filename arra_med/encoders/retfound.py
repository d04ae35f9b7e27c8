"""RETFound: a ViT-L of fundus photographs, from the checkpoint of its masked autoencoder.

Source: Zhou et al., "A foundation model for generalizable disease detection from retinal images", Nature 622 (2023);
https://github.com/rmaphoh/RETFound. The file is that of MAE (arXiv 2111.06377): `model` holds the encoder under timm's
names and a decoder, which is not used; the training's arguments stand beside it.
"""

from pathlib import Path

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from arra_med.encoders.base import Preprocessing
from arra_med.encoders.config import RETFOUND
from arra_med.encoders.hub import model_file
from arra_med.encoders.published_file import published_file
from arra_med.encoders.timm_encoder import TimmEncoder
from arra_med.errors import EncoderError
from arra_med.published_weights import read_published_weights, require_names_and_shapes

ARCHITECTURE = "vit_large_patch16_224"
FILES = ("RETFound_mae_natureCFP.pth", "RETFound_cfp_weights.pth", "RETFound_oct_weights.pth")
_SIZE_PX = 224
_DECODER = ("decoder_", "mask_token")


def load_retfound_encoder(model: str) -> TimmEncoder:
    """Builds the encoder with the published weights; `mean` is what RETFound pools, `cls` its class token.

    Args:
        model: The checkpoint file, its folder, or its hub id.

    Raises:
        EncoderError: If the file is missing, cannot be read without running its code, or is of another architecture.
    """
    hub_id = model == RETFOUND and not Path(model).is_dir()
    path = (
        model_file(model, FILES)
        if hub_id
        else published_file(model, "RETFound", FILES, f"hub id {RETFOUND}, on request")
    )
    found = read_published_weights(path, ("model",), EncoderError)
    network = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0)
    decoder = [name for name in found if name.startswith(_DECODER)]
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    require_names_and_shapes(path, found, expected, EncoderError, ignored=decoder)
    network.load_state_dict({name: found[name] for name in expected}, strict=True)
    preprocessing = Preprocessing((_SIZE_PX, _SIZE_PX), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    return TimmEncoder(f"retfound:{path.stem}", network, preprocessing)
