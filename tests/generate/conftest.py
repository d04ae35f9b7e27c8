"""A tiny random language model with an image vocabulary, shared by the tests of this room."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from arra_med.generate import previews
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import BundleInfo, ModelBundle
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.tokens.vq import VQConfig, VQTokenizer

VOCABULARY = ImageVocabulary(bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=20, codebook_size=24, vocab_size=48)


@pytest.fixture(scope="session")
def layout() -> SequenceLayout:
    """3 x 4 codes; text ids 4..19, image ids 20..43, and four rows of padding after them."""
    return SequenceLayout(vocabulary=VOCABULARY, grid=(3, 4), max_text_tokens=12)


@pytest.fixture(scope="session")
def model(layout: SequenceLayout) -> PreTrainedModel:
    """Weights are large, so that its softmax is far from uniform and its argmax far from a tie."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=layout.vocabulary.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def bundle(model: PreTrainedModel) -> ModelBundle:
    """Random weights; chest images of 16 px from 4 x 4 codes; words it does not know are all one token."""
    torch.manual_seed(1)
    image_tokenizer = VQTokenizer(VQConfig(size_px=16, downsampling=4, width=32, max_width=32, levels=(8, 3))).eval()
    vocabulary = {"[UNK]": 4, "effusion": 5, "pneumothorax": 6, "normal": 7, ",": 8, ".": 9, "PA": 10}
    words = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    info = BundleInfo(
        name="tiny-cxr",
        variant="arra",
        layout=SequenceLayout(vocabulary=VOCABULARY, grid=(4, 4), max_text_tokens=24),
        canonical_view=CanonicalView(modality="cxr", size_px=16),
        licence_class="open",
        sources=("nih_cxr14",),
        attributions={},
        label_counts={"effusion": 400, "pneumothorax": 12, "normal": 900},
        training={},
    )
    return ModelBundle(model, PreTrainedTokenizerFast(tokenizer_object=words), image_tokenizer, info, "ab" * 32)


@pytest.fixture(scope="session")
def bundle_folder(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle as files."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    ModelBundle.save(
        folder,
        model=bundle.model,
        text_tokenizer=bundle.text_tokenizer,
        image_tokenizer=bundle.image_tokenizer,
        info=bundle.info,
        card="# tiny",
    )
    return folder


class AtOnce:
    """Does what it is given before it returns, so that a picture is there with its row."""

    def __init__(self, **_: object) -> None:
        pass

    def submit(self, work: Callable[..., np.ndarray], *arguments: Any) -> Future[np.ndarray]:
        future: Future[np.ndarray] = Future()
        try:
            future.set_result(work(*arguments))
        except RuntimeError as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_: object) -> None:
        pass


@pytest.fixture
def previews_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes partial pictures in the thread that draws, without waiting for another one."""
    monkeypatch.setattr(previews, "ThreadPoolExecutor", AtOnce)
