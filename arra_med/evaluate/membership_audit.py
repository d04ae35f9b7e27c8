"""The membership attack on bundles: losses of training and held-out images of one source, and what they give away."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.tokenize import Corpus
from arra_med.errors import EvaluationError
from arra_med.evaluate.held_out import TrainedOn, trained_on
from arra_med.evaluate.intervals import auroc_interval, t_interval
from arra_med.evaluate.likelihood import ImageLosses, image_losses, plain_examples
from arra_med.evaluate.membership import membership_attack, membership_difference, membership_scores
from arra_med.models.bundle import ModelBundle


def membership_of_arms(
    arms: Mapping[str, ModelBundle],
    corpus: Corpus,
    trained: TrainedOn,
    source: str,
    *,
    baseline: str = "baseline",
    left_out: Collection[str] = (),
    max_members: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Attacks each arm on the same images of one source, all with the plain view and a wording drawn by the same rule.

    Args:
        arms: Bundles by name, all trained on the same rows of this corpus.
        corpus: The corpus.
        trained: Which rows trained, such as `trained_on(bundle.info)`.
        source: Whose images: across sources one would tell sources apart, not members.
        baseline: Name of the arm that the others are compared with; there need not be one.
        left_out: Ids of images that belong to neither side, such as held-out duplicates of training images.
        max_members: Training images at most, drawn at random and the same for all arms; none: all.
        progress: Whether to show progress bars.

    Returns:
        JSON values. `arms` holds a `Membership` for each arm and signal; `minus_baseline` a `MembershipDifference` for
        each other arm and signal; `without_a_model` is the AUROC of how common the
        images' tokens are in this source, which no model has a part in: away from 0.5, training and held-out images
        differ in themselves, and an AUROC of a model says less about memory. (That blind guess: Das et al., arXiv
        2406.16201.)

    Raises:
        EvaluationError: If the source has too few images.
    """
    images = _attacked_images(corpus, trained, source, left_out, max_members)
    records = corpus.records
    member = np.array([trained(records[image]) for image in images], dtype=bool)
    patients = [records[image].patient_id for image in images]
    scores = {arm: _scores(arm, bundle, corpus, images, progress) for arm, bundle in arms.items()}
    attacks = {
        arm: {signal: asdict(membership_attack(values, member, patients)) for signal, values in its_scores.items()}
        for arm, its_scores in scores.items()
    }
    differences = {
        arm: {
            signal: asdict(
                membership_difference({baseline: scores[baseline][signal], arm: its_scores[signal]}, member, patients)
            )
            for signal in its_scores
        }
        for arm, its_scores in scores.items()
        if baseline in scores and arm != baseline
    }
    blind = auroc_interval(_token_commonness(corpus, images), member, patients=patients)
    return {"source": source, "arms": attacks, "minus_baseline": differences, "without_a_model": asdict(blind)}


def membership_of_seed(
    seed: int,
    folders: Mapping[str, Path],
    corpus: Corpus,
    *,
    baseline: str = "baseline",
    source: str | None = None,
    left_out: Collection[str] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Attacks the arms of one training seed; for a comparison.

    Args:
        seed: The training seed.
        folders: Bundle folders by arm.
        corpus: The corpus they were trained on.
        baseline: As `membership_of_arms`.
        source: Whose images; none: the source with the most held-out images.
        left_out: As `membership_of_arms`.
        progress: Whether to show progress bars.

    Returns:
        What `membership_of_arms` returns, with the `seed`.

    Raises:
        EvaluationError: If the arms were trained on different rows, or the source has too few images.
        BundleError: If a bundle is missing or damaged.
    """
    arms = {arm: ModelBundle.load(folder) for arm, folder in folders.items()}
    trained = common_training_rows(arms, corpus)
    source = source or _largest_held_out_source(corpus, trained)
    told = membership_of_arms(arms, corpus, trained, source, baseline=baseline, left_out=left_out, progress=progress)
    return {"seed": seed, **told}


def membership_over_seeds(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the rows of `membership_of_seed` as `per_seed`, and what they say together as `over_seeds`.

    That is, for each arm, signal and measure, the t interval over seeds of arm minus baseline; empty with one seed.
    """
    over_seeds: dict[str, Any] = {}
    if len(rows) > 1:
        for arm in sorted(set.intersection(*(set(row["minus_baseline"]) for row in rows))):
            over_seeds[arm] = {
                signal: {
                    measure: asdict(
                        t_interval([row["minus_baseline"][arm][signal][measure]["estimate"] for row in rows])
                    )
                    for measure in measures
                }
                for signal, measures in rows[0]["minus_baseline"][arm].items()
            }
    return {"per_seed": list(rows), "over_seeds": over_seeds}


def common_training_rows(arms: Mapping[str, ModelBundle], corpus: Corpus) -> TrainedOn:
    """Returns which rows trained the arms.

    Raises:
        EvaluationError: If the arms were trained on different rows, which would be told apart instead of the arms.
    """
    rules = {arm: trained_on(bundle.info) for arm, bundle in arms.items()}
    if not rules:
        raise EvaluationError("no bundle was given: give at least one")
    (first, rule), *others = rules.items()
    for arm, other in others:
        if any(rule(record) != other(record) for record in corpus.records):
            raise EvaluationError(
                f"{first} and {arm} were trained on different images (sources or fold): compare bundles of the same rows"
            )
    return rule


def _attacked_images(
    corpus: Corpus, trained: TrainedOn, source: str, left_out: Collection[str], max_members: int | None
) -> list[int]:
    excluded = set(left_out)
    usable = [
        image
        for image, record in enumerate(corpus.records)
        if record.source == source and record.split is not None and record.image_id not in excluded
    ]
    if not usable:
        raise EvaluationError(f"the corpus has no image of source {source}: choose another source")
    members = [image for image in usable if trained(corpus.records[image])]
    if max_members is not None and max_members < len(members):
        kept = set(np.random.default_rng(0).choice(members, max_members, replace=False).tolist())
        usable = [image for image in usable if image in kept or not trained(corpus.records[image])]
    return usable


def _scores(arm: str, bundle: ModelBundle, corpus: Corpus, images: list[int], progress: bool) -> dict[str, np.ndarray]:
    """The signals of one bundle, (n,) each, in the order of `images`."""
    losses = {True: np.empty(len(images)), False: np.empty(len(images))}
    place = {image: index for index, image in enumerate(images)}
    with progress_bar(f"likelihoods of {arm}", 2 * len(images), progress) as advance:
        splits = sorted({split for image in images if (split := corpus.records[image].split) is not None})
        for split in splits:
            dataset = plain_examples(bundle, corpus, split)
            chosen = [index for index, image in enumerate(dataset.images) if image in place]
            where = [place[dataset.images[index]] for index in chosen]
            for with_report, values in losses.items():
                values[where] = image_losses(bundle, dataset, chosen, with_report=with_report, advance=advance)
    return membership_scores(ImageLosses(conditional=losses[True], unconditional=losses[False]))


def _token_commonness(corpus: Corpus, images: list[int]) -> np.ndarray:
    """Mean log-frequency of each image's codes among all of these images, (n,)."""
    codes = np.stack([corpus.codes(image).flatten().numpy() for image in images])
    frequency = np.bincount(codes.ravel(), minlength=corpus.info.codebook_size) / codes.size
    return np.asarray(np.log(frequency[codes]).mean(axis=1))


def _largest_held_out_source(corpus: Corpus, trained: TrainedOn) -> str:
    held_out = Counter(r.source for r in corpus.records if r.split is not None and not trained(r))
    if not held_out:
        raise EvaluationError(f"{corpus.folder}: every image trained the bundles; tokenize held-out ones as well")
    return held_out.most_common(1)[0][0]
