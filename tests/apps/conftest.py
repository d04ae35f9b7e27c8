"""Two tiny bundles with random weights, and a page that serves them."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from arra_med_apps.choices import ModelChoice, Shelf, bundle_choice
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from arra_med.generate.session import GenerationRequest, GenerationUpdate, ReportToImage
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.tokens.vq import VQConfig, VQTokenizer

SIZE_PX, GRID = 32, 8
_WORDS = ("[UNK]", "effusion", "normal", "pneumothorax", "glaucoma", "PA", "AP", "view", "chest", "image", ",", ".")


def write_tiny_bundle(
    folder: Path, modality: str, variant: str = "arra", weights_seed: int = 0, grid: int = GRID, num_layers: int = 1
) -> Path:
    size_px = SIZE_PX * grid // GRID
    vocabulary = ImageVocabulary(
        bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=20, codebook_size=27, vocab_size=48
    )
    torch.manual_seed(weights_seed)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": num_layers, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=48, max_position_embeddings=64 + grid * grid, initializer_range=0.3, **shape)
    )
    channels = 1 if modality == "cxr" else 3
    vq = VQConfig(size_px=size_px, channels=channels, downsampling=4, width=32, max_width=32, levels=(3, 3, 3))
    tokenizer = Tokenizer(WordLevel({word: 4 + i for i, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    ModelBundle.save(
        folder,
        model=model.eval(),
        text_tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer),
        image_tokenizer=VQTokenizer(vq).eval(),
        info=BundleInfo(
            name=f"tiny-{modality}",
            variant=variant,
            layout=SequenceLayout(vocabulary=vocabulary, grid=(grid, grid), max_text_tokens=40),
            canonical_view=CanonicalView(modality=modality, size_px=size_px),
            licence_class="open",
            sources=("nih_cxr14",),
            attributions={},
            label_counts={"normal": 900, "effusion": 400, "pneumothorax": 12} if modality == "cxr" else {},
            training={},
        ),
        card="# A tiny bundle with random weights",
    )
    return folder


class Slow(ReportToImage):
    """Waits after each row, as a large model does."""

    def stream(self, request: GenerationRequest, partial_images: bool = True) -> Iterator[GenerationUpdate]:
        for update in super().stream(request, partial_images):
            time.sleep(1.5)
            yield update

    def draw_codes(
        self, requests: Sequence[GenerationRequest], should_stop: Callable[[], bool] | None = None
    ) -> torch.Tensor:
        time.sleep(0.7)
        return super().draw_codes(requests, should_stop)


@pytest.fixture(scope="session")
def choices(tmp_path_factory: pytest.TempPathFactory) -> list[ModelChoice]:
    folder = tmp_path_factory.mktemp("bundles")
    chest, fundus = (
        bundle_choice(write_tiny_bundle(folder / f"tiny-{modality}", modality)) for modality in ("cxr", "fundus")
    )
    slow = dataclasses.replace(chest, name="slow", label="Slow", open=lambda: Slow(chest.open().bundle))
    return [chest, slow, fundus]


@pytest.fixture
def shelf(choices: list[ModelChoice]) -> Shelf:
    return Shelf(choices)


@pytest.fixture(scope="module")
def page_url(choices: list[ModelChoice]) -> Iterator[str]:
    from arra_med_apps.app import serve

    before = os.environ.get("GRADIO_TEMP_DIR")
    served = serve(choices, "127.0.0.1", 0, open_browser=False)
    yield served.page.local_url
    served.close()
    if before is None:
        os.environ.pop("GRADIO_TEMP_DIR", None)
    else:
        os.environ["GRADIO_TEMP_DIR"] = before
