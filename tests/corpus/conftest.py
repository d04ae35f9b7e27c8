from pathlib import Path

import pytest
import torch

from arra_med.corpus.tokenize import tokenize
from arra_med.tokens.layout import SequenceLayout
from arra_med.tokens.vocabulary import ImageVocabulary
from arra_med.tokens.vq import VQConfig, VQTokenizer
from tests.corpus.tiny_studies import write_study_set


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """The folder of a study set of six."""
    write_study_set(tmp_path / "studies")
    return tmp_path / "studies"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """The folder of a 16 px tokenizer with random weights, twelve codes and a grid of two by two."""
    torch.manual_seed(0)
    shape = VQConfig(size_px=16, width=32, max_width=32, encoder_blocks=1, decoder_blocks=1, levels=(4, 3))
    VQTokenizer(shape).save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def corpus_folder(tmp_path: Path, studies: Path, tokenizer: Path) -> Path:
    """The folder of their corpus, three views of each training study."""
    tokenize(studies, tokenizer, tmp_path / "corpus", views=3, seed=5, device="cpu", progress=False)
    return tmp_path / "corpus"


@pytest.fixture
def layout() -> SequenceLayout:
    """bos 0, pad 1, boi 2, eoi 3, text 4 to 103, image 200 to 211 on two by two places."""
    vocabulary = ImageVocabulary(
        bos_id=0, pad_id=1, boi_id=2, eoi_id=3, first_image_id=200, codebook_size=12, vocab_size=212
    )
    return SequenceLayout(vocabulary=vocabulary, grid=(2, 2), max_text_tokens=40)
