"""The bundles inside the package: whole, small, honestly licensed, and open with plain transformers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from arra_med.models.bundle import ModelBundle, read_bundle_info
from arra_med.models.bundled import bundled, find_bundle
from arra_med.records.cards import require_card, strictest_licence_class
from arra_med.tokens.layout import Span

FOLDERS = sorted(bundled("cxr").parent.glob("mini-*"))
MEGABYTE = 10**6


def test_both_chest_models_and_the_fundus_model_are_there() -> None:
    assert [folder.name for folder in FOLDERS] == ["mini-cxr", "mini-cxr-finetuned", "mini-fundus"]
    assert find_bundle("mini", "cxr").name == "mini-cxr"
    assert find_bundle("mini-finetuned", "cxr").name == "mini-cxr-finetuned"
    assert find_bundle("mini", "fundus").name == "mini-fundus"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_bundle_is_small_and_its_licence_is_the_strictest_of_its_sources(folder: Path) -> None:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert max(sizes) < 50 * MEGABYTE
    assert sum(sizes) < 60 * MEGABYTE
    info = read_bundle_info(folder)
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Research use only" in card
    assert f"**{info.licence_class}**" in card
    if info.modality == "fundus":
        assert info.licence_class == strictest_licence_class(require_card(s).licence_class for s in info.sources)
        assert info.licence_class == "research-only"
    else:
        assert info.licence_class == "open"
    assert set(info.attributions) == set(info.sources)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_bundle_opens_with_plain_transformers_and_gives_the_same_logits(folder: Path) -> None:
    bundle = ModelBundle.load(folder)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    layout = bundle.layout
    text_ids = layout.text_ids(bundle.text_tokenizer, "PA view chest X-ray image, Pleural effusion.")
    codes = torch.randint(0, layout.vocabulary.codebook_size, (layout.num_image_tokens,)).tolist()
    ids, span = layout.training_ids(text_ids, codes)
    with torch.no_grad():
        logits = bundle.model(torch.tensor([ids])).logits[0]
        assert torch.equal(plain(torch.tensor([ids])).logits[0], logits)
    likeliest = logits[slice(*layout.predicting_span(Span(*span)))].argmax(-1)
    assert bool((layout.vocabulary.first_image_id <= likeliest).all())  # where an image token comes, one is expected
    assert bool((likeliest < layout.vocabulary.end_image_id).all())


def test_the_chest_twins_differ_by_the_alignment_alone() -> None:
    arra, finetuned = (read_bundle_info(folder) for folder in FOLDERS[:2])
    settings = [{**info.training["settings"], "name": "", "alignment": None} for info in (arra, finetuned)]
    assert settings[0] == settings[1]
    assert arra.training["settings"]["alignment"]["weight"] == 1.0
    assert finetuned.training["settings"]["alignment"] is None
    for hashed in ("study_set_sha256", "tokenizer_sha256", "sequences"):
        assert arra.training[hashed] == finetuned.training[hashed]
    assert arra.layout == finetuned.layout


def test_bundles_opened_by_several_threads_at_once_are_all_whole_and_so_is_the_next() -> None:
    """Two loads inside transformers at once would leave every later model of the process without tied weights."""
    names = [FOLDERS[0], FOLDERS[-1]] * 3
    with ThreadPoolExecutor(len(names)) as threads:
        opened = list(threads.map(ModelBundle.load, names))
    for bundle in [*opened, ModelBundle.load(FOLDERS[0])]:
        assert bundle.model.lm_head.weight is bundle.model.model.embed_tokens.weight
