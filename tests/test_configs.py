"""Every shipped YAML is tested code: it loads, and what it describes can be built."""

from pathlib import Path

import pytest

from arra_med.config import load_config, shipped_folder
from arra_med.models.presets import PRESETS, random_llama
from arra_med.tokens.vq import VQTokenizer
from arra_med.training.alignment import decoder_blocks, resolve_layer
from arra_med.training.settings import TrainConfig
from arra_med.training.tokenizer_run import TokenizerTrainConfig

CONFIGS = sorted(shipped_folder("configs").glob("*.yaml"))
TOKENIZERS = [path for path in CONFIGS if path.stem.endswith("tokenizer")]
TRAININGS = [path for path in CONFIGS if path not in TOKENIZERS]


@pytest.mark.parametrize("path", TOKENIZERS, ids=lambda path: path.name)
def test_a_tokenizer_config_builds_its_tokenizer(path: Path) -> None:
    config = load_config(path, TokenizerTrainConfig)
    assert VQTokenizer(config.tokenizer).grid == (16, 16)


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.name)
def test_a_training_config_builds_its_model(path: Path) -> None:
    config = load_config(path, TrainConfig)
    if config.start.kind != "random":
        pytest.skip("its language model is downloaded; tests/models/test_start.py opens it where it is installed")
    model = random_llama(PRESETS[config.start.preset], 300, 64, config.start.seed)
    if config.alignment is not None:
        resolve_layer(config.alignment.layer, len(decoder_blocks(model)))


def test_arra_is_the_baseline_plus_one_block() -> None:
    baseline = load_config(shipped_folder("configs") / "mini_cxr_finetune.yaml", TrainConfig)
    arra = load_config(shipped_folder("configs") / "mini_cxr_arra.yaml", TrainConfig)
    assert baseline.alignment is None
    assert arra.model_copy(update={"alignment": None, "name": baseline.name}) == baseline
