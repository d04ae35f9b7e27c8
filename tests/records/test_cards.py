import pytest
import yaml

from arra_med.errors import CardError
from arra_med.records.cards import (
    DataCard,
    list_cards,
    load_card,
    require_card,
    row_licence_class,
    strictest_licence_class,
)

CARD = {
    "source": "ours",
    "title": "Our films",
    "modality": "cxr",
    "description": "Films of one ward.",
    "access": "Ask the ward.",
    "url": "https://example.org/films",
    "licence": "CC BY 4.0",
    "licence_class": "open",
    "redistributable_weights": True,
    "biases": ["One ward only."],
}


@pytest.fixture
def write_card(tmp_path, monkeypatch):
    (tmp_path / "data_cards").mkdir()
    monkeypatch.chdir(tmp_path)

    def write(name="ours", **changes):
        card = {key: value for key, value in (CARD | changes).items() if value is not None}
        (tmp_path / "data_cards" / f"{name}.yaml").write_text(yaml.safe_dump(card))

    return write


def test_a_card_beside_the_work_is_read(write_card):
    write_card()
    assert load_card("ours") == DataCard.model_validate(CARD)
    assert "ours" in [card.source for card in list_cards()]


def test_a_card_beside_the_work_wins_over_a_shipped_one(write_card):
    write_card("nih_cxr14", source="nih_cxr14", title="My own words")
    assert load_card("nih_cxr14").title == "My own words"


@pytest.mark.parametrize("source", ["nih_cxr14", "nih_rsna_normal", "kermany_pneumonia", "hannover_covid", "chase_db1"])
def test_sources_of_open_weights_have_open_cards(source):
    card = require_card(source)
    assert card.licence_class == "open"
    assert card.redistributable_weights


@pytest.mark.parametrize(
    "source",
    ["covid_chestxray", "odir5k", "srahim_dr", "mimic_cxr", "deepeyenet", "imagenet", "local_dicom", "local_images"],
)
def test_other_sources_have_cards_that_keep_their_weights_back(source):
    card = require_card(source)
    assert card.licence_class != "open"
    assert not card.redistributable_weights


def test_every_shipped_card_is_valid():
    assert len(list_cards()) >= 11


def test_a_source_without_a_card_is_refused_with_the_place_to_write_one(write_card):
    with pytest.raises(CardError, match=r"source 'unheard_of' has no data card: write .*data_cards/unheard_of\.yaml"):
        require_card("unheard_of")


@pytest.mark.parametrize("name", ["../secrets", "A B", "", "x" * 65])
def test_a_source_name_cannot_leave_the_folder(name):
    with pytest.raises(CardError, match="holds only a-z, 0-9 and _"):
        load_card(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": None}, "licence"),
        ({"licence": "  "}, "licence"),
        ({"biases": []}, "biases"),
        ({"licence_class": "free"}, "licence_class"),
        ({"url": "films"}, "must be a web address"),
        ({"licenze": "x"}, "did you mean 'licence'"),
        ({"licence_class": "research-only"}, "only weights from open sources"),
    ],
)
def test_a_wrong_card_is_refused(write_card, changes, message):
    write_card(**changes)
    with pytest.raises(CardError, match=message):
        load_card("ours")


def test_a_card_must_name_its_own_source(write_card):
    write_card("theirs")
    with pytest.raises(CardError, match="names source 'ours', but the file's name says 'theirs'"):
        load_card("theirs")


def test_the_strictest_class_binds():
    assert strictest_licence_class(["open", "research-only", "open"]) == "research-only"
    assert strictest_licence_class(["credentialed", "open"]) == "credentialed"
    assert strictest_licence_class(["open"]) == "open"
    with pytest.raises(CardError, match="no licence class"):
        strictest_licence_class([])


def test_a_redistributable_row_of_a_mixed_source_is_open_but_never_of_a_credentialed_one():
    mixed, credentialed = load_card("covid_chestxray"), load_card("mimic_cxr")
    assert row_licence_class(mixed, redistributable=True) == "open"
    assert row_licence_class(mixed, redistributable=False) == "research-only"
    assert row_licence_class(credentialed, redistributable=True) == "credentialed"
