"""Every source has a card, and every card says what a reader has to know."""

import csv
from pathlib import Path

import pytest

from arra_med.config import shipped_folder
from arra_med.records.cards import list_cards, load_card

SOURCES = sorted(path.stem for path in shipped_folder("data_cards").glob("*.yaml"))
NAMED_BY_THE_METHOD = {"mimic_cxr", "deepeyenet", "imagenet", "openi", "local_dicom", "local_images"}


def rows_by_source(data: Path, modality: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    with (data / modality / "studies.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["source"], []).append(row)
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_every_card_is_valid_and_complete(source: str) -> None:
    card = load_card(source)
    assert card.views
    assert card.labels
    if not source.startswith("local_"):
        assert card.url
        assert card.citation
        assert card.attribution
        assert card.num_images


def test_the_cards_that_the_method_names_are_there() -> None:
    assert NAMED_BY_THE_METHOD <= {card.source for card in list_cards()}


@pytest.mark.parametrize("source", ["mimic_cxr", "deepeyenet", "local_dicom", "local_images"])
def test_what_was_given_under_an_agreement_is_credentialed(source: str) -> None:
    assert load_card(source).licence_class == "credentialed"


@pytest.mark.real_data
@pytest.mark.parametrize("modality", ["cxr", "fundus"])
def test_every_source_of_the_real_data_has_a_card_that_agrees_with_it(real_data: Path, modality: str) -> None:
    for source, rows in rows_by_source(real_data, modality).items():
        card = load_card(source)
        assert card.modality == modality
        assert card.num_images == len(rows)
        if all(row["patient_known"] == "yes" for row in rows):
            assert card.num_patients == len({row["patient_id"] for row in rows})
        open_rows = [row["redistributable"] == "yes" for row in rows]
        assert card.redistributable_weights == all(open_rows)
