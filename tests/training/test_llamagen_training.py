"""LlamaGen as the start of a training: fine-tuning and ARRA from its weights, by class and by caption."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf

from arra_med.corpus.dataset import Corpus, TrainingDataset
from arra_med.corpus.features import extract_features
from arra_med.corpus.ingest import ingest
from arra_med.corpus.tokenize import tokenize
from arra_med.errors import BundleError
from arra_med.generate.decoding import decode_image_tokens
from arra_med.generate.sampling import SamplingRules
from arra_med.imaging.view import CanonicalView
from arra_med.models.bundle import ModelBundle
from arra_med.models.llamagen_checkpoint import LlamaGenShape, random_llamagen
from arra_med.models.llamagen_start import LlamaGenStart
from arra_med.models.start import build_start
from arra_med.records.manifest import write_manifest
from arra_med.records.study import StudyRecord
from arra_med.tokens.llamagen_layout import LlamaGenLayout
from arra_med.tokens.llamagen_vq import read_llamagen_vq
from arra_med.training.run import train
from arra_med.training.task import TrainingTask
from tests.models import llamagen_reference as reference
from tests.tokens import llamagen_reference as tokenizer_reference
from tests.training.conftest import TinyData
from tests.training.test_run import logged, settings

BOLD = {"steps": 2, "warmup_steps": 0, "learning_rate": 0.02}
NAMES = ["tench", "goldfish", "great white shark", "owl", "crane"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Twelve photographs of two classes, tokenized by a toy LlamaGen tokenizer, with teacher features."""
    root = tmp_path_factory.mktemp("photos")
    records = []
    for number in range(12):
        name = ("tench", "owl")[number % 2]
        path = root / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        records.append(
            StudyRecord(
                image_id=f"photo/{number}",
                patient_id=f"photo/{number}",
                modality="photo",
                path=str(path),
                report=f"a photo of {'an' if name == 'owl' else 'a'} {name}",
                report_kind="from_labels",
                labels=(name,),
                source="imagenet",
                licence="made in a test",
                split="train" if number < 8 else "validation",
            )
        )
    write_manifest(records, root / "studies.csv")
    view = CanonicalView(modality="photo", size_px=16)
    ingest(root / "studies.csv", root / "studies", view, workers=0, progress=False)
    vq = tokenizer_reference.random_weights((32, 32, 32), stem=32, latent=32, codebook=(reference.CODEBOOK_SIZE, 8))
    torch.save({"model": vq}, root / "vq.pt")
    read_llamagen_vq(root / "vq.pt", 16).save_pretrained(root / "tokenizer")
    tokenize(root / "studies", root / "tokenizer", root / "corpus", progress=False)
    save_for_hf(timm.create_model("test_vit", num_classes=0), str(root / "teacher"), safe_serialization=True)
    teacher = f"timm:{root / 'teacher'}"
    extract_features(root / "studies", teacher, root / "features.parquet", kinds=("cls",), progress=False)
    return TinyData(root / "studies", root / "tokenizer", root / "corpus", root / "features.parquet")


def class_start(folder: Path) -> dict[str, Any]:
    torch.save({"model": reference.random_checkpoint()}, folder / "c2i.pt")
    (folder / "names.txt").write_text("\n".join(NAMES))
    return {"kind": "llamagen", "weights": folder / "c2i.pt", "class_names": folder / "names.txt", "num_heads": 2}


@pytest.mark.parametrize("weight", [None, 1.0])
def test_class_weights_are_trained_on_and_the_bundle_draws_and_starts_again(
    photos: TinyData, tmp_path: Path, weight: float | None
) -> None:
    start = class_start(tmp_path)
    folder = train(settings(photos, weight=weight, start=start, **BOLD), tmp_path / "first")
    assert len(logged(tmp_path / "first", "image_token_loss")) == 2
    opened = ModelBundle.load(folder)
    before = build_start(
        LlamaGenStart.model_validate(start), grid=(4, 4), codebook_size=24, max_text_tokens=9, sentences=[]
    )
    changed = opened.model.model.class_embedding.weight - before.model.model.class_embedding.weight
    assert [bool((row.abs() > 0.01).any()) for row in changed[:5]] == [True, False, False, True, False]  # tench and owl
    prompts = [opened.layout.prompt_ids(opened.layout.text_ids(opened.text_tokenizer, "a photo of an owl"))]
    codes = decode_image_tokens(opened.model, opened.layout, prompts, SamplingRules(guidance_scale=2.0), [0])
    assert 0 <= int(codes.min()) <= int(codes.max()) < 24
    again = train(
        settings(photos, start={"kind": "bundle", "path": folder}, steps=1, warmup_steps=0, learning_rate=1e-9),
        tmp_path / "again",
    )
    kept = ModelBundle.load(again).model.lm_head.weight
    assert torch.equal(kept, opened.model.lm_head.weight)  # the image head is kept as it is


def test_caption_weights_learn_reports_and_the_text_encoder_stays(tiny_data: TinyData, tmp_path: Path) -> None:
    encoder = reference.write_tiny_t5(tmp_path / "t5")
    tensors = reference.random_checkpoint(classes=None, positions=24)
    tensors["tok_embeddings.weight"], tensors["output.weight"] = torch.randn(2, 16, 16).unbind()  # the corpus' 16 codes
    torch.save(tensors, tmp_path / "t2i.pt")
    start = {"kind": "llamagen", "weights": tmp_path / "t2i.pt", "text_encoder": str(encoder), "num_heads": 2}
    folder = train(settings(tiny_data, weight=1.0, start=start, **BOLD), tmp_path / "run")
    opened = ModelBundle.load(folder)
    before = build_start(
        LlamaGenStart.model_validate(start), grid=(4, 4), codebook_size=16, max_text_tokens=9, sentences=[]
    )
    trained, untrained = opened.model.state_dict(), before.model.state_dict()
    for name, value in untrained.items():
        if ".text_encoder." in name:
            assert torch.equal(trained[name], value.bfloat16().float())
    assert not torch.allclose(trained["model.caption_in.weight"], untrained["model.caption_in.weight"], atol=0.01)


def test_a_dropped_caption_is_as_long_as_it_was(tiny_data: TinyData, tmp_path: Path) -> None:
    encoder = reference.write_tiny_t5(tmp_path / "t5")
    shape = LlamaGenShape(hidden_size=16, num_layers=1, num_heads=2)
    parts = random_llamagen(shape, grid=(4, 4), codebook_size=16, max_text_tokens=24, text_encoder=str(encoder), seed=0)
    corpus = Corpus.open(tiny_data.corpus)
    shown, dropped = (
        TrainingDataset(corpus, "train", parts.layout, parts.text_tokenizer, prompt_dropout=share) for share in (0, 1)
    )
    for index in range(4):
        kept, lost = shown[index], dropped[index]
        start = kept["image_span"].start
        assert lost["image_span"] == kept["image_span"]
        assert lost["input_ids"][:start] == [parts.layout.vocabulary.bos_id] * start
        assert lost["input_ids"][start:] == kept["input_ids"][start:]
    assert parts.layout.vocabulary.bos_id not in kept["input_ids"]


def test_losses_of_a_class_sequence_equal_those_of_the_equations() -> None:
    tensors = reference.random_checkpoint()
    vocabulary_rows = 64
    layout, task, ids = _task(tensors)
    codes = [3, 17, 0, 23, 9, 5]
    with torch.no_grad():
        loss = float(task(torch.tensor([ids]), torch.tensor([1]))["image_token_loss"])
    table = tensors["cls_embedding.embedding_table.weight"].double().numpy()
    expected = reference.logits(tensors, table[[2]], np.ones(1, dtype=bool), codes)
    # eoi and the unused rows of the head stand at the mean of the codes' rows: their logit is the mean of the codes'
    expected = np.concatenate([expected, np.repeat(expected.mean(1, keepdims=True), vocabulary_rows - 24, axis=1)], 1)
    targets = [*codes, layout.vocabulary.eoi_id]
    log_shares = expected - np.log(np.exp(expected).sum(1, keepdims=True))
    assert loss == pytest.approx(
        -np.mean([row[target] for row, target in zip(log_shares, targets, strict=True)]), rel=1e-5
    )


def _task(tensors: dict[str, torch.Tensor]) -> tuple[LlamaGenLayout, TrainingTask, list[int]]:
    from tempfile import TemporaryDirectory

    from arra_med.models.llamagen_checkpoint import read_llamagen

    with TemporaryDirectory() as folder:
        torch.save(tensors, Path(folder) / "c2i.pt")
        parts = read_llamagen(Path(folder) / "c2i.pt", grid=reference.GRID, codebook_size=24, num_heads=2)
    ids, _ = parts.layout.training_ids(parts.layout.text_ids(parts.text_tokenizer, "2"), [3, 17, 0, 23, 9, 5])
    return parts.layout, TrainingTask(parts.model.eval(), parts.layout, z_loss_weight=0.0), ids


def test_the_rep_token_is_refused_and_random_weights_are_a_start(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("x\ny\n")
    config = LlamaGenStart(class_names=tmp_path / "names.txt")
    arguments: dict[str, Any] = {"grid": (2, 2), "codebook_size": 24, "max_text_tokens": 9, "sentences": []}
    with pytest.raises(BundleError, match="no <REP> token"):
        build_start(config, **arguments, rep=True)
    start = build_start(config, **arguments)
    assert start.model.config.num_hidden_layers == 12
    assert start.layout.max_text_tokens == 1
    assert all(value.requires_grad for value in start.model.parameters())
