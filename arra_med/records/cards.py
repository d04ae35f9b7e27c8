"""Data cards: where a source comes from, what may be done with it, and what it cannot bear.

A card is `data_cards/<source>.yaml`. A source without a card, or whose card names no licence, is not ingested.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, StringConstraints, model_validator

from arra_med.config import StrictModel, load_config, shipped_folder
from arra_med.errors import CardError, ConfigError
from arra_med.records.study import Modality

LicenceClass = Literal["open", "research-only", "credentialed"]
"""How far weights trained on a source may travel, from the freest to the strictest."""

LICENCE_CLASSES: tuple[LicenceClass, ...] = ("open", "research-only", "credentialed")

_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")


def _is_web_address(text: str) -> str:
    if text and not re.fullmatch(r"https?://\S+", text):
        raise ValueError("must be a web address that starts with http:// or https://, or empty for private data")
    return text


Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
WebAddress = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_is_web_address)]


class DataCard(StrictModel):
    """What a reader of a result must know about one data source.

    Attributes:
        source: The name that `StudyRecord.source` carries; also the card's file name. Lower case, digits, `_`.
        title: The data set's own name.
        modality: What its images are.
        description: What the images are, and who took and labelled them.
        access: How to get the data.
        url: The data set's page; empty for private data.
        licence: The licence in its holder's words or its SPDX name.
        licence_class: How far weights trained on it may travel.
        redistributable_weights: Whether weights trained on all of it may be passed on under an open licence. A source
            whose rows differ says `false` here and row by row in `StudyRecord.redistributable`.
        num_images: Images in the source as used here (`None`: it depends on the user's files).
        num_patients: Patients in the source as used here (`None`: unknown or not identified).
        views: Which projections or eyes there are, and what is not known of them.
        labels: Where the labels come from (experts, text mining, folders) and what they do not say.
        biases: What a result on this source cannot show; one sentence each, at least one.
        citation: The reference to cite; empty for private data.
        attribution: The words that must stand beside published pictures and weights.
    """

    source: Annotated[str, StringConstraints(pattern=rf"^{_SOURCE_NAME.pattern}$")]
    title: Words
    modality: Modality
    description: Words
    access: Words
    url: WebAddress = ""
    licence: Words
    licence_class: LicenceClass
    redistributable_weights: bool
    num_images: PositiveInt | None = None
    num_patients: PositiveInt | None = None
    views: str = ""
    labels: str = ""
    biases: tuple[Words, ...] = Field(min_length=1)
    citation: str = ""
    attribution: str = ""

    @model_validator(mode="after")
    def _only_open_data_is_passed_on(self) -> "DataCard":
        if self.redistributable_weights and self.licence_class != "open":
            raise ValueError(
                f"redistributable_weights is true but licence_class is {self.licence_class}: only weights from open "
                "sources may be passed on under an open licence"
            )
        return self


def card_folders() -> list[Path]:
    """Returns the folders where cards are looked for: `data_cards` in the working directory, then the shipped one."""
    here, shipped = Path("data_cards").resolve(), shipped_folder("data_cards")
    return [folder for folder in dict.fromkeys((here, shipped)) if folder.is_dir()]


def load_card(source: str) -> DataCard:
    """Reads the card of a source.

    Raises:
        CardError: If there is none, a key is missing, unknown or wrong, or the card names another source.
    """
    if not _SOURCE_NAME.fullmatch(source):
        raise CardError("a source name holds only a-z, 0-9 and _ (at most 64): mend the manifest's column 'source'")
    for folder in card_folders():
        path = folder / f"{source}.yaml"
        if path.is_file():
            return _read_card(path)
    folder = (card_folders() or [Path("data_cards").resolve()])[0]
    raise CardError(
        f"source {source!r} has no data card: write {folder / source}.yaml (licence, access, biases; copy a card that "
        f"is there), then ingest again. Sources with a card: {', '.join(_names()) or 'none'}"
    )


def require_card(source: str) -> DataCard:
    """Returns the card of a source that is about to be ingested; the gate every source has to pass.

    Raises:
        CardError: As `load_card`; a source without card or licence is refused.
    """
    return load_card(source)


def list_cards() -> list[DataCard]:
    """Reads every card that can be found, sorted by source; a card in the working directory wins over a shipped one.

    Raises:
        CardError: If any card is not valid.
    """
    return [load_card(name) for name in _names()]


def strictest_licence_class(classes: Iterable[LicenceClass]) -> LicenceClass:
    """Returns the class that binds a work made from sources of these classes.

    Raises:
        CardError: If there is no class at all: a work from nowhere has no licence.
    """
    given = list(classes)
    if not given:
        raise CardError("no licence class is given: name at least one source with a data card")
    return max(given, key=LICENCE_CLASSES.index)


def row_licence_class(card: DataCard, redistributable: bool) -> LicenceClass:
    """Returns the class of one row: in a source of mixed licences, a row marked redistributable is open.

    A credentialed source stays credentialed whatever a row says.
    """
    return "open" if redistributable and card.licence_class != "credentialed" else card.licence_class


def _names() -> list[str]:
    return sorted({path.stem for folder in card_folders() for path in folder.glob("*.yaml")})


def _read_card(path: Path) -> DataCard:
    try:
        card = load_config(path, DataCard)
    except ConfigError as error:
        raise CardError(f"data card is not valid:\n{error}") from None
    if card.source != path.stem:
        raise CardError(
            f"{path}: names source {card.source!r}, but the file's name says {path.stem!r}; make them equal"
        )
    return card
