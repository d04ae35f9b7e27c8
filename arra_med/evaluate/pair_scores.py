"""How well an image goes with its report: log p(image | report) - log p(image | no report), under a bundle.

The pointwise mutual information of image and report, in nats for each image token: above 0 the report makes the image
likelier, below 0 another text would have described it better. A model that learned an image by heart scores its report
high, whatever it says: score an archive with a bundle that was not trained on it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError, ReportError
from arra_med.imaging.view import from_uint8
from arra_med.models.bundle import ModelBundle
from arra_med.records.report import report_prompt
from arra_med.records.study import StudyRecord
from arra_med.tokens.layout import SequenceLayout
from arra_med.training.alignment import at_positions
from arra_med.training.losses import token_losses


@dataclass(frozen=True)
class PairLikelihoods:
    """Mean log-probabilities of an image's tokens, in nats.

    Attributes:
        with_report: (n,) float64, given the report.
        without_report: (n,) float64, given the prompt without text.
    """

    with_report: np.ndarray
    without_report: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """(n,) nats for each token that the report adds."""
        return self.with_report - self.without_report


def pair_prompt(bundle: ModelBundle, record: StudyRecord, report: str | None = None) -> str | None:
    """Returns the prompt of an image: its view, eye and age group with a report; `None` where that describes no image.

    Args:
        bundle: The model, for its longest prompt.
        record: The image's record.
        report: Another image's report; the record's own by default.
    """
    layout = bundle.layout
    try:
        return report_prompt(
            record.report if report is None else report,
            modality=record.modality,
            view=record.view,
            age_group=record.age_group,
            laterality=record.laterality,
            count_tokens=lambda text: len(layout.text_ids(bundle.text_tokenizer, text)),
            max_tokens=layout.max_text_tokens,
        ).text
    except ReportError:
        return None


def image_log_probs(
    model: Any, layout: SequenceLayout, texts: Sequence[Sequence[int]], codes: np.ndarray
) -> np.ndarray:
    """Returns the mean log-probability of an image's tokens after a prompt, over the model's whole vocabulary.

    Rows are padded on the right, which no position in use sees; every row's tokens are summed up by themselves.

    Args:
        model: A `transformers` causal LM with an image vocabulary.
        layout: Of its sequences.
        texts: Ids of each prompt's text.
        codes: int64 (B, h * w).

    Returns:
        float64 (B,), in nats.

    Raises:
        EvaluationError: If a value is not finite.
    """
    device = model.device
    sequences = [layout.training_ids(text, its_codes.tolist()) for text, its_codes in zip(texts, codes, strict=True)]
    shape = (len(sequences), max(len(ids) for ids, _ in sequences))
    input_ids = torch.full(shape, layout.vocabulary.pad_id, dtype=torch.int64)
    for row, (ids, _) in enumerate(sequences):
        input_ids[row, : len(ids)] = torch.tensor(ids)
    starts = torch.tensor([span.start for _, span in sequences], device=device)
    input_ids = input_ids.to(device)
    predicted = starts[:, None] + torch.tensor(layout.image_offsets, device=device)
    with torch.no_grad():
        hidden_states = at_positions(model.base_model(input_ids=input_ids, use_cache=False)[0], predicted - 1)
        targets, head = input_ids.gather(1, predicted), model.get_output_embeddings()
        losses = [
            token_losses(states[None], head.weight, target[None], 0.0, head_bias=getattr(head, "bias", None))
            for states, target in zip(hidden_states, targets, strict=True)
        ]
    found = -np.array([float(loss.image_token_loss) for loss in losses], dtype=np.float64)
    if not np.isfinite(found).all():
        raise EvaluationError("the model's likelihoods are not finite: its weights are damaged, copy the bundle again")
    return found


def encoded_views(bundle: ModelBundle, studies: StudySet, rows: Sequence[int]) -> np.ndarray:
    """Returns the codes of some views by the bundle's own image tokenizer, int64 (B, h * w)."""
    views = torch.from_numpy(from_uint8(np.stack([studies.view(row) for row in rows])))
    codes: np.ndarray = bundle.image_tokenizer.encode(views.to(bundle.model.device)).flatten(1).cpu().numpy()
    return codes


def score_pairs(
    bundle: ModelBundle,
    codes: np.ndarray,
    prompts: Sequence[str],
    *,
    batch_size: int,
    without_report: np.ndarray | None = None,
    advance: Callable[[int], None] | None = None,
) -> PairLikelihoods:
    """Scores images with prompts.

    Args:
        bundle: The model, in float32.
        codes: int64 (n, h * w).
        prompts: One for each image.
        batch_size: Sequences computed at once; equal sizes give equal bits.
        without_report: (n,) if it is known already: it does not depend on the report, unless the model's empty prompt
            has the report's length (LlamaGen).
        advance: Told of each batch's images.

    Raises:
        EvaluationError: If a likelihood is not finite.
    """
    layout = bundle.layout
    texts = [layout.text_ids(bundle.text_tokenizer, prompt) for prompt in prompts]
    given, alone = [], []
    for start in range(0, len(texts), batch_size):
        batch = slice(start, start + batch_size)
        given.append(image_log_probs(bundle.model, layout, texts[batch], codes[batch]))
        if without_report is None:
            dropped = [layout.dropped_text_ids(text) for text in texts[batch]]
            alone.append(image_log_probs(bundle.model, layout, dropped, codes[batch]))
        if advance is not None:
            advance(len(texts[batch]))
    return PairLikelihoods(np.concatenate(given), np.concatenate(alone) if without_report is None else without_report)


def other_reports(
    bundle: ModelBundle, records: Sequence[StudyRecord], *, within_source: bool, seed: int
) -> list[str | None]:
    """Draws for each image the prompt that another patient's report gives it.

    The image's own view, eye and age group stay, so that the report's content alone is what does not fit.

    Args:
        bundle: The model, for its longest prompt.
        records: The images that have a prompt.
        within_source: Draw from the image's own source, so that the style of a source gives nothing away.
        seed: Of the draws; each image has its own, by its id.

    Returns:
        A prompt that differs from the image's own one; `None` where no other patient has such a report.
    """
    by_source: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        by_source.setdefault(record.source if within_source else "", []).append(row)
    prompts: list[str | None] = []
    for record in records:
        candidates = by_source[record.source if within_source else ""]
        draw = np.random.default_rng(int(hashlib.sha256(f"{seed}:{record.image_id}".encode()).hexdigest()[:16], 16))
        own, chosen = pair_prompt(bundle, record), None
        for row in draw.permutation(candidates):
            other = records[row]
            if other.patient_id != record.patient_id and other.report != record.report:
                chosen = pair_prompt(bundle, record, other.report)
                if chosen is not None and chosen != own:
                    break
                chosen = None
        prompts.append(chosen)
    return prompts
