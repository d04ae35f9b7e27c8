"""What the model ignored, for people: the prompt with its phrases marked, a table, and the files of an explanation."""

from dataclasses import replace
from pathlib import Path

from arra_med.evaluate.phrase_effect import LIMIT, RULE, Explanation
from arra_med.generate.content_credentials import ContentSigner
from arra_med.generate.export import save_images
from arra_med.generate.marks import Marks
from arra_med.generate.session import SYNTHETIC_NOTICE
from arra_med.reporting.html import HtmlReport
from arra_med.runs import write_json

PAGE_FILE, RECORD_FILE = "explanation.html", "explanation.json"
COLUMNS = (
    "phrase",
    "verdict",
    "change when left out, nats an image [95% interval]",
    "beyond noise",
    "p (Holm)",
    "kind",
)

_PRIVATE_MODE = 0o600  # the page holds report text

_ALL_MARKS = Marks()


def marked_prompt(explanation: Explanation) -> list[tuple[str, bool | None]]:
    """Cuts the prompt into its parts: of a phrase with an effect (True), of one without (False), of no phrase (None)."""
    text = explanation.result.prompt.text
    spans = sorted(
        (start, stop, effect.has_effect) for effect in explanation.effects for start, stop in effect.phrase.spans
    )
    parts: list[tuple[str, bool | None]] = []
    at = 0
    for start, stop, has_effect in spans:
        parts += [(text[at:start], None), (text[start:stop], has_effect)]
        at = stop
    return [part for part in (*parts, (text[at:], None)) if part[0]]


def effect_rows(explanation: Explanation) -> list[tuple[str, str, str, str, str, str]]:
    """Returns the cells of `COLUMNS` for each phrase, in the prompt's order."""
    return [
        (
            effect.text,
            "has an effect" if effect.has_effect else "no effect found",
            f"{effect.change.estimate:.2f} [{effect.change.low:.2f}, {effect.change.high:.2f}]",
            f"{effect.beyond_noise:+.2f}",
            "< 0.001" if effect.p_value < 0.001 else f"{effect.p_value:.3f}",
            effect.phrase.kind,
        )
        for effect in explanation.effects
    ]


def noise_in_words(explanation: Explanation) -> str:
    """Returns one sentence on the images and the noise."""
    changes = explanation.paraphrase_changes
    return (
        f"{len(explanation.result.images)} images; {len(changes)} other wordings of the whole report change their "
        f"log-likelihood by {changes[0]:.2f} to {explanation.noise:.2f} nats an image."
    )


def save_explanation(
    explanation: Explanation,
    folder: Path,
    format: str = "png",  # noqa: A002 (the command line's word)
    *,
    include_report: bool = False,
    marks: Marks = _ALL_MARKS,
    signer: ContentSigner | None = None,
) -> list[Path]:
    """Writes the images, whose records tell each phrase's effect, one record of it all, and a page for people.

    Args:
        explanation: What was measured.
        folder: Where to; made if missing.
        format: Of the images; see `save_images`.
        include_report: Also store report, prompt and phrases in the JSON files. The page always shows the prompt, and is
            for its owner alone (mode 0600).
        marks: What to draw into the images' pixels.
        signer: Gives each PNG its content credentials.

    Returns:
        The images' files, the record, and the page.

    Raises:
        GenerationError: As `save_images`.
    """
    told, result = explanation.told(), explanation.result
    drawn = replace(result, details=tuple(told for _ in result.images))
    written = save_images(
        drawn, folder, format, name="explained", include_report=include_report, marks=marks, signer=signer
    )
    record = {**result.provenance, "seeds": [result.seed(index) for index in range(len(result.images))]}
    words = {"report": result.request.report, "prompt": result.prompt.text} if include_report else {}
    mode = _PRIVATE_MODE if include_report else 0o644
    write_json(folder / RECORD_FILE, {**record, **explanation.told(include_report), **words}, mode)
    _page(explanation).write(folder / PAGE_FILE, _PRIVATE_MODE)
    return [*written, folder / RECORD_FILE, folder / PAGE_FILE]


def _page(explanation: Explanation) -> HtmlReport:
    result = explanation.result
    bundle = result.provenance["bundle"]
    page = HtmlReport(
        "What the model ignored",
        banner=SYNTHETIC_NOTICE,
        subtitle="Marked phrases have an effect on the images; of those struck out in grey none could be found.",
        footer=f"{bundle['name']}, sha256 {bundle['sha256'][:12]}",
    )
    section = page.section("The prompt").marked(marked_prompt(explanation)).text(RULE).text(LIMIT)
    for notice in (*explanation.notices, *result.prompt.notices):
        section.text(notice)
    page.section("Phrases").table(COLUMNS, effect_rows(explanation), noise_in_words(explanation))
    drawn = [_ALL_MARKS.draw(image)[0] for image in result.images]
    captions = [f"synthetic, seed {result.seed(index)}" for index in range(len(drawn))]
    page.section("The images").pictures(zip(drawn, captions, strict=True))
    return page
