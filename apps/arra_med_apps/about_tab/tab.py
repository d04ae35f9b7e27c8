"""The tab that says what the app is, what its models and data are, and what it is not for."""

import html
from collections.abc import Iterable

import gradio as gr

from arra_med import __version__
from arra_med.config import intended_use
from arra_med.errors import ArraMedError
from arra_med.generate.content_credentials import configured_signer
from arra_med.models.bundle import read_model_card
from arra_med.models.licence import ACKNOWLEDGEMENT, CREDENTIALED
from arra_med.records.cards import DataCard, list_cards
from arra_med.runs import versions
from arra_med_apps import words
from arra_med_apps.about_tab import words as own_words
from arra_med_apps.choices import ModelChoice, Shelf


def add_about_tab(shelf: Shelf) -> None:
    """Adds the tab's components; called inside its `gr.Tab`."""
    with gr.Column(elem_classes="am-panel am-prose"):
        gr.Markdown(intended_use(), sanitize_html=True)
        gr.HTML(_marks())
        gr.HTML(f"<h3>{own_words.MODELS_TITLE}</h3>")
        for choice in shelf.choices.values():
            name = f"{choice.label}, {words.MODALITY_NAMES[choice.modality].lower()}"
            with gr.Accordion(name, open=False):
                gr.HTML(_model(choice))
        with gr.Accordion(own_words.DATA_TITLE, open=False):
            gr.HTML("".join(map(_card, list_cards())))
        with gr.Accordion(own_words.VERSIONS_TITLE, open=False):
            gr.HTML(_definitions(versions().items()))
        gr.HTML(f"<h3>{own_words.CITE_TITLE}</h3><p>{html.escape(own_words.CITE.format(version=__version__))}</p>")


def _marks() -> str:
    opening, items = own_words.MARKS
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    try:
        signed = own_words.SIGNED if configured_signer() else own_words.NOT_SIGNED
    except ArraMedError as error:
        signed = words.sentence(str(error))
    said = "".join(f"<p>{html.escape(text)}</p>" for text in (own_words.MARKS_LIMIT, signed))
    return f"<h3>{own_words.MARKS_TITLE}</h3><p>{html.escape(opening)}</p><ul>{listed}</ul>{said}"


def _model(choice: ModelChoice) -> str:
    facts = [("Licence", words.LICENCE_CLASSES.get(choice.licence_class, choice.licence_class))]
    if choice.licence_class == CREDENTIALED:
        facts.append(("Before files leave", ACKNOWLEDGEMENT))
    cautions = "".join(f"<li>{html.escape(caution)}</li>" for caution in choice.cautions)
    card = read_model_card(choice.folder) if choice.folder is not None else ""
    return (
        _definitions(facts)
        + (f"<ul>{cautions}</ul>" if cautions else "")
        + f'<pre class="am-card" tabindex="0">{html.escape(card or own_words.NO_CARD)}</pre>'
    )


def _card(card: DataCard) -> str:
    facts = [
        ("Licence", f"{card.licence} ({words.LICENCE_CLASSES.get(card.licence_class, card.licence_class)})"),
        ("Access", card.access),
        *([("Labels", card.labels)] if card.labels else []),
        ("Cannot bear", "; ".join(card.biases)),
    ]
    return f"<h4>{html.escape(card.source)}</h4><p>{html.escape(card.description)}</p>{_definitions(facts)}"


def _definitions(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts)
    return f'<div class="am-settings"><dl>{rows}</dl></div>'
