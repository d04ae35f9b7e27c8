"""What can be said of the pictures, as HTML: nearest training images, checks, scores, the study."""

import html
from collections.abc import Sequence

import numpy as np

from arra_med.evaluate.finding_scores import FindingRow, ModelScore, PictureJudge
from arra_med.evaluate.finished_study import FinishedStudy
from arra_med.evaluate.quality_gate import QualityGate
from arra_med.evaluate.training_search import NearTraining, TrainingSearch
from arra_med.generate.checking import ImageVerdict
from arra_med_apps import words as shared
from arra_med_apps.compare_tab import words
from arra_med_apps.compare_tab.grid import zoomable


def paragraph(text: str, quiet: bool = True) -> str:
    """Returns a sentence."""
    return f'<p class="am-cmp-text{" am-muted" if quiet else ""}">{html.escape(text)}</p>'


def nearest_card(label: str, seed: int, image: np.ndarray, near: NearTraining, training: Sequence[np.ndarray]) -> str:
    """Returns one picture beside the training images that it resembles most.

    Args:
        label: Of its model.
        seed: Its own.
        image: uint8 (H, W) or (H, W, 3).
        near: What was found.
        training: `TrainingSearch.pictures` of it.
    """
    others = "".join(
        f"<li>{zoomable(picture, f'Training image, a real patient; likeness {match.similarity:.2f}', f'training image {place}')}"
        f"<span>Training image<br>likeness {match.similarity:.2f}</span></li>"
        for place, (picture, match) in enumerate(zip(training, near.matches, strict=True), start=1)
    )
    name = f"{label}, seed {seed}"
    mark = words.FLAGGED if near.flagged else words.NOT_FLAGGED
    return (
        f'<article class="am-cmp-near{" am-cmp-flagged" if near.flagged else ""}"><h4>{html.escape(name)}</h4><ul>'
        f"<li>{zoomable(image, f'Synthetic, {name}', f'{name}, synthetic')}<span>Synthetic<br>&nbsp;</span></li>{others}</ul>"
        f"<p><strong>{html.escape(mark)}.</strong> {html.escape(near.rarity)}.</p>"
        "</article>"
    )


def nearest_panel(cards: Sequence[str], search: TrainingSearch, num_flagged: int, num_images: int) -> str:
    """Returns the finished memorisation check of all models that share a search."""
    rate = search.threshold.false_alarm_rate
    every = "1 in 100" if abs(rate - 0.01) < 1e-9 else f"{100 * rate:.1f} in 100"
    told = (
        f"{shared.several(num_images, 'picture')} looked up among {len(search.training):,} training images; {num_flagged} "
        f"flagged. Compared with {len(search.held_out)} held-out images of {search.source}."
    )
    notes = "".join(f"<li>{html.escape(shared.sentence(note))}</li>" for note in search.notes)
    return (
        f'<div class="am-note" role="note">{html.escape(shared.PATIENTS_NOTICE)}</div>{paragraph(told, quiet=False)}'
        f'<div class="am-cmp-cards">{"".join(cards)}</div>{paragraph(words.NEAREST_HOW.format(rate=every))}'
        + (f'<ul class="am-notices">{notes}</ul>' if notes else "")
    )


def reference_panel(rows: Sequence[tuple[str, QualityGate | None, Sequence[ImageVerdict]]]) -> str:
    """Returns what the models' own check references say, and how to see training images.

    Args:
        rows: For each model its label, its check if it has one, and a verdict for each picture.
    """
    told = []
    for label, gate, verdicts in rows:
        if gate is None:
            told.append((label, words.NO_REFERENCE))
            continue
        passed = sum(verdict.passed for verdict in verdicts)
        reasons = dict.fromkeys(words.REASONS.get(name, name) for one in verdicts for name in one.reasons)
        because = f" Not: {', '.join(reasons)}." if reasons else ""
        info = gate.reference.info
        told.append(
            (
                label,
                f"{passed} of {len(verdicts)} pictures pass what {100 * info.pass_rate:.0f} in 100 of {info.num_held_out} "
                f"held-out real images pass.{because}",
            )
        )
    facts = "".join(f"<dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd>" for label, text in told)
    how = paragraph(words.REFERENCE_HOW) if any(gate is not None for _, gate, _ in rows) else ""
    return f'<div class="am-settings"><dl>{facts}</dl></div>{how}{paragraph(words.NO_TRAINING)}'


def scores_panel(judge: PictureJudge, rows: Sequence[FindingRow], unknown: Sequence[str]) -> str:
    """Returns the judge's scores, its name and how good it is."""
    if not rows:
        return paragraph(words.NO_FINDING.format(known=", ".join(judge.classifier.findings)), quiet=False)
    models = list(rows[0].models)
    num = len(next(iter(rows[0].models.values())).scores)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in (*models, "Difference", "The judge itself"))
    body = "".join(
        f'<tr><th scope="row">{html.escape(row.finding)}</th>'
        + "".join(f"<td>{_score(row.models[model])}</td>" for model in models)
        + f"<td>{html.escape(_difference(row))}</td><td>{html.escape(_judged(row))}</td></tr>"
        for row in rows
    )
    who = f"Judge: {judge.name}, weights {judge.classifier.encoder.fingerprint[:12]}. Score: 0 absent to 1 present."
    mean = f"Mean over {shared.several(num, 'picture')} of each model, with a 95% interval over seeds."
    notes = "".join(f"<li>{html.escape(shared.sentence(note))}</li>" for note in unknown)
    return (
        f'{paragraph(who, quiet=False)}{paragraph(mean)}<div class="am-cmp-scroll" role="region" tabindex="0" aria-label="Scores">'
        f'<table class="am-cmp-table"><thead><tr><th scope="col">Finding</th>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"</div>{paragraph(words.FEW_PICTURES)}" + (f'<ul class="am-notices">{notes}</ul>' if notes else "")
    )


def study_panel(study: FinishedStudy) -> str:
    """Returns a study's answer, and its report in a frame that runs no script and reaches nothing."""
    answers = "".join(paragraph(sentence, quiet=False) for sentence in study.answers)
    facts = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in study.facts.items())
    title = html.escape(f"Report of study {study.name}")
    return (
        f'<h4 class="am-cmp-question">{html.escape(study.question)}</h4>{answers}'
        f'<div class="am-settings"><dl>{facts}</dl></div>'
        f'<button type="button" class="am-cmp-open" data-title="{title}">{html.escape(words.OPEN_PAGE)}</button>'
        f'<iframe class="am-cmp-report" title="{title}" sandbox="" referrerpolicy="no-referrer" loading="lazy" '
        f'srcdoc="{html.escape(study.page)}"></iframe>'
    )


def _score(score: ModelScore) -> str:
    if score.interval is None:
        return f"{score.mean:.2f}<small>one picture, no interval</small>"
    return f"{score.mean:.2f}<small>{score.interval[0]:.2f} to {score.interval[1]:.2f}</small>"


def _difference(row: FindingRow) -> str:
    if row.difference is None:
        return "–"
    if row.difference.low <= 0 <= row.difference.high:
        return "none shown"
    first, second = row.models
    return f"{second if row.difference.estimate > 0 else first} higher at these seeds"


def _judged(row: FindingRow) -> str:
    told = row.judged
    if told is None:
        return words.NOT_MEASURED
    unsure = "" if told.estimable else f"; {words.TOO_FEW}"
    return (
        f"AUROC {told.auroc:.2f} on held-out real images ({told.source}, {told.group}: {told.num_positive} with, "
        f"{told.num_negative} without{unsure})"
    )
