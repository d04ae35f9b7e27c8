"""What a model ignored: each phrase of a report left out, against how far other wordings of the whole report move it.

Images are drawn with the full prompt at given seeds. At the same codes, the log-likelihood of each image is taken again
without one phrase: how far it falls is what the phrase said about that image. Words that say the same in another way
move it too; that is the noise. A phrase has an effect if leaving it out moves the likelihood further than the
farthest-moving of the paraphrases does, and by more than the images' spread explains.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from arra_med.errors import EvaluationError
from arra_med.evaluate.intervals import Interval, t_interval
from arra_med.generate.likelihood import code_log_likelihoods
from arra_med.generate.request import GenerationRequest
from arra_med.generate.session import GenerationResult, ReportToImage
from arra_med.records.paraphrases import paraphrases
from arra_med.records.phrases import Phrase, prefix_of, prompt_phrases, without_phrase
from arra_med.records.report import Prompt

NUM_IMAGES, MIN_IMAGES = 8, 4
NUM_PARAPHRASES, MIN_PARAPHRASES = 19, 3
ALPHA = 0.05

RULE = (
    "A phrase has an effect if leaving it out lowers the log-likelihood of the images by more than the paraphrase that "
    "lowers it most: one-sided paired t-test over images, Holm-corrected over the phrases, at 5%."
)
LIMIT = (
    "It says what the model reads, not what the picture shows: a phrase with an effect may still be drawn wrongly, and one "
    "that says again what the rest of the report says has none."
)


@dataclass(frozen=True)
class PhraseEffect:
    """What leaving out one phrase did.

    Attributes:
        phrase: Where it stands in the prompt, and its kind.
        text: Its words; report text.
        change: Fall of an image's log-likelihood in nats, mean and 95% t interval over images.
        beyond_noise: The same, less that of the paraphrase that lowers it most; mean over images.
        p_value: One-sided, that `beyond_noise` is above 0, Holm-corrected over phrases.
    """

    phrase: Phrase
    text: str
    change: Interval
    beyond_noise: float
    p_value: float

    @property
    def has_effect(self) -> bool:
        """Whether it passes `RULE`."""
        return self.p_value < ALPHA


@dataclass(frozen=True)
class Explanation:
    """What each phrase of a prompt did to the images drawn from it.

    Attributes:
        result: The images, drawn with the whole prompt.
        effects: Of each phrase, in the prompt's order.
        paraphrase_changes: Mean fall of the log-likelihood for each paraphrase, in nats for an image, ascending.
        text_change: Fall without the whole text beyond the template (view, eye, patient), mean and interval; none where
            the prompt has no such text.
        notices: What a reader should be told.
    """

    result: GenerationResult
    effects: tuple[PhraseEffect, ...]
    paraphrase_changes: tuple[float, ...]
    text_change: Interval | None
    notices: tuple[str, ...] = field(default=())

    @property
    def noise(self) -> float:
        """The fall that a phrase has to exceed: of the paraphrase that lowers the likelihood most."""
        return self.paraphrase_changes[-1]

    def told(self, include_report: bool = False) -> dict[str, Any]:
        """Returns what a record says; the phrases' words only where report text may be stored."""
        return {
            "what_the_model_ignored": {
                "rule": RULE,
                "limit": LIMIT,
                "num_images": len(self.result.images),
                "unit": "nats for an image, without guidance",
                "noise_of_paraphrases": list(self.paraphrase_changes),
                "change_without_whole_text": None if self.text_change is None else _interval(self.text_change),
                "phrases": [
                    {
                        "kind": effect.phrase.kind,
                        "characters": [list(span) for span in effect.phrase.spans],
                        **({"text": effect.text} if include_report else {}),
                        "change": _interval(effect.change),
                        "beyond_noise": effect.beyond_noise,
                        "p_value_holm": effect.p_value,
                        "has_effect": effect.has_effect,
                    }
                    for effect in self.effects
                ],
                "notices": list(self.notices),
            }
        }


@dataclass(frozen=True)
class ExplanationUpdate:
    """State of an explanation in progress: the share of the work that is done, and in the last update the result."""

    progress: float
    result: Explanation | None = None


def stream_explanation(
    session: ReportToImage, request: GenerationRequest, *, num_paraphrases: int = NUM_PARAPHRASES
) -> Iterator[ExplanationUpdate]:
    """Draws the request's images and measures each phrase of its prompt on them.

    Args:
        session: The model.
        request: The report, number of images (the more, the smaller the effects that are found), seeds and rules.
        num_paraphrases: How many other wordings make up the noise; fewer are taken where no more are known.

    Raises:
        EvaluationError: If there are fewer than `MIN_IMAGES` images, or the prompt has no phrase or fewer than
            `MIN_PARAPHRASES` other wordings.
        GenerationError: If the request does not fit the bundle, or the model is damaged.
        ReportError: If the report holds nothing that can become a prompt.
    """
    prompt = session.prompt(request)
    phrases, shorter, reworded = _variants(session, prompt, request, num_paraphrases)
    texts = [prompt.text, *shorter, *reworded]
    text_alone = prefix_of(prompt, request.modality)
    if text_alone and text_alone != prompt.text:
        texts.append(text_alone)
    num_images, num_steps = request.num_images, 1 + len(texts)
    drawn: GenerationResult | None = None
    for update in session.stream(request, partial_images=False):
        drawn = update.result or drawn
        yield ExplanationUpdate(update.progress / num_steps)
    assert drawn is not None  # a stream ends with a result
    likelihoods = np.empty((len(texts), num_images))
    for row, text in enumerate(texts):
        likelihoods[row] = _image_log_likelihoods(session, text, drawn.codes)
        yield ExplanationUpdate((2 + row) / (num_steps + 1))
    falls = likelihoods[0] - likelihoods[1:]
    effects, noise = phrase_effects(prompt, phrases, falls[: len(phrases)], falls[len(phrases) :][: len(reworded)])
    whole = t_interval(falls[-1].tolist()) if len(texts) > 1 + len(phrases) + len(reworded) else None
    notices = [] if len(reworded) >= NUM_PARAPHRASES else [_few(len(reworded))]
    yield ExplanationUpdate(1.0, Explanation(drawn, effects, noise, whole, tuple(notices)))


def explain(
    session: ReportToImage,
    request: GenerationRequest,
    *,
    num_paraphrases: int = NUM_PARAPHRASES,
    advance: Callable[[float], None] | None = None,
) -> Explanation:
    """Measures the phrases of a report without updates; arguments and errors as `stream_explanation`."""
    for update in stream_explanation(session, request, num_paraphrases=num_paraphrases):
        if advance is not None:
            advance(update.progress)
        if update.result is not None:
            return update.result
    raise AssertionError("a stream ends with a result")


def phrase_effects(
    prompt: Prompt, phrases: Sequence[Phrase], falls: np.ndarray, noise_falls: np.ndarray
) -> tuple[tuple[PhraseEffect, ...], tuple[float, ...]]:
    """Applies `RULE`.

    Args:
        prompt: The prompt.
        phrases: Its phrases.
        falls: float64 (phrases, images), fall of the log-likelihood without each.
        noise_falls: float64 (paraphrases, images), the same with other wordings.

    Returns:
        The effects, and the mean fall of each paraphrase, ascending.
    """
    means = noise_falls.mean(axis=1)
    beyond = falls - noise_falls[int(means.argmax())]
    p_values = holm([_p_value(values) for values in beyond])
    effects = tuple(
        PhraseEffect(phrase, phrase.text(prompt.text), t_interval(fall.tolist()), float(excess.mean()), p_value)
        for phrase, fall, excess, p_value in zip(phrases, falls, beyond, p_values, strict=True)
    )
    return effects, tuple(sorted(means.tolist()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p values for their number.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _variants(
    session: ReportToImage, prompt: Prompt, request: GenerationRequest, num_paraphrases: int
) -> tuple[list[Phrase], list[str], list[str]]:
    modality = request.modality
    if request.num_images < MIN_IMAGES:
        raise EvaluationError(
            f"{request.num_images} images tell an effect from chance too badly: ask for at least {MIN_IMAGES}, better "
            f"{NUM_IMAGES}"
        )
    phrases = prompt_phrases(prompt, modality)
    if not phrases:
        raise EvaluationError("the report says nothing that could be left out: name a view, an eye or a finding")
    longest = session.bundle.layout.max_text_tokens
    found = paraphrases(prompt, modality, 2 * num_paraphrases, random.Random(0))
    fitting = [text for text in found if len(session.reader.text_ids(text)) <= longest][:num_paraphrases]
    if len(fitting) < MIN_PARAPHRASES:
        raise EvaluationError(
            f"{len(fitting)} other wordings of this report are known, at least {MIN_PARAPHRASES} are needed to tell an "
            "effect from a change of words: name a finding in it"
        )
    return phrases, [without_phrase(prompt, modality, phrase) for phrase in phrases], fitting


def _image_log_likelihoods(session: ReportToImage, text: str, codes: torch.Tensor) -> np.ndarray:
    bundle = session.bundle
    found = code_log_likelihoods(bundle.model, bundle.layout, session.reader.text_prompt_ids(text), codes)
    return found.flatten(1).sum(dim=1).numpy()


def _p_value(values: np.ndarray) -> float:
    """One-sided, that the mean of the values is above 0; values that are all the same are no chance."""
    from scipy import stats

    if np.ptp(values) == 0:
        return 0.0 if values[0] > 0 else 1.0
    return float(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue)


def _few(num_paraphrases: int) -> str:
    return (
        f"Only {num_paraphrases} other wordings of this report are known, {NUM_PARAPHRASES} are wanted: the noise is "
        "badly known, and a phrase may be taken for one with an effect."
    )


def _interval(interval: Interval) -> dict[str, float]:
    return {"mean": interval.estimate, "low": interval.low, "high": interval.high}
