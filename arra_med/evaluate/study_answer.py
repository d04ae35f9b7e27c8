"""What a study says in sentences, from `comparison.json` alone: the answer, how it was come to, and what it does not say."""

from collections.abc import Mapping, Sequence
from typing import Any

from arra_med.evaluate.comparison import Tier
from arra_med.evaluate.study_tables import percent

_TIER_SENTENCES: dict[Tier, str] = {
    "exceeds the paper": "helped, and by more than the paper reports",
    "matches the paper": "helped, by at least the share that the paper reports",
    "helps": "helped",
    "no matched control": "has no control with its own teacher, so nothing is concluded of it",
    "not shown to help": "was not shown to help",
    "hurts": "made the images worse",
}


def opening_sentences(told: Mapping[str, Any]) -> list[str]:
    """Returns what comes before all tables: what was asked, what could be found, what was found, and how it was judged."""
    return [f"Asked: {told['question']}", *answer_sentences(told), *method_sentences(told)]


def answer_sentences(told: Mapping[str, Any]) -> list[str]:
    """Returns the answer in plain sentences; what could have been found comes before what was found."""
    primary, detectable = told["primary"], told["primary"]["detectable"]
    sentences = []
    if told["exploratory"]:
        sentences.append(
            "Exploratory: settings were tried out, or chosen after looking at results. It is judged on the "
            f"{primary['split']} images; it raises a question, it settles none."
        )
    if detectable is None:
        return [
            *sentences,
            "Each arm was trained with one seed. Two trainings differ by luck as well, and one seed cannot tell how much: "
            "there is no interval and no verdict.",
        ]
    sentences.append(
        f"What this study could find: with {detectable['num_seeds']} training seeds for each arm, a reduction of "
        f"{detectable['reduction']:.1%} or more is found {detectable['power']:.0%} of the time. A smaller effect can be missed."
    )
    for verdict in primary["verdicts"]:
        mine = [effect for effect in primary["effects"] if effect["arm"] == verdict["arm"]]
        against = next(effect["reduction"] for effect in mine if effect["role_against"] == "baseline")
        moved = "fell" if against["reduction"] >= 0 else "rose"
        sentence = (
            f"{verdict['arm']} {_TIER_SENTENCES[verdict['tier']]}. Against the baseline its distance to real images {moved} by "
            f"{percent(abs(against['reduction']))} ({against['confidence']:.0%} interval over {against['num_seeds']} training "
            f"seeds: {_move(against['low'])} to {_move(against['high'])})."
        )
        sentences.append(sentence + _about_controls(mine, primary) + _about_patients(mine, primary["split"]))
    if not primary["verdicts"]:
        sentences.append("The study has no treatment, so there is no verdict.")
    return sentences


def _move(reduction: float) -> str:
    return f"{'a fall' if reduction >= 0 else 'a rise'} of {percent(abs(reduction))}"


def _about_controls(mine: Sequence[Mapping[str, Any]], primary: Mapping[str, Any]) -> str:
    """What the treatment's own controls say of it."""
    if "control" not in primary["roles"].values():
        return " The study has no control: any other auxiliary loss might have done the same."
    own = primary["controls"][mine[0]["arm"]]
    judged = [effect for effect in mine if effect["role_against"] == "baseline" or effect["against"] in own]
    if short := [effect["against"] for effect in judged if effect["reduction"]["low"] <= 0]:
        return f" No fall is shown against {_listed(short)}."
    return f" A fall is shown against {_listed(own)}, too." if own else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def _about_patients(mine: Sequence[Mapping[str, Any]], split: str) -> str:
    """Whether the wider interval, which takes the patients of the judged split for a sample as well, agrees."""
    effect = next(effect for effect in mine if effect["role_against"] == "baseline")
    wider, seeds = effect["hierarchical"], effect["reduction"]
    if wider is None or ((wider["low"] > 0) == (seeds["low"] > 0) and (wider["high"] < 0) == (seeds["high"] < 0)):
        return ""
    bounds = f"{_move(wider['low'])} to {_move(wider['high'])}"
    return f" With the {split} patients as a sample, too, the interval is {bounds}: less sure."


def method_sentences(told: Mapping[str, Any]) -> list[str]:
    """Returns how the answer was come to: the power, the tiers, the registration."""
    primary = told["primary"]
    return [
        *([_about_power(primary["detectable"])] if primary["detectable"] else []),
        "A treatment helps if the 95% interval over seeds lies above 0 against the baseline and against each of its controls. It "
        f"matches the paper if its reduction is also at least {primary['paper_reduction']:.0%} (arXiv 2503.07334, rounded, "
        "with other data and another judge), and exceeds it if the whole interval is above that.",
        f"Start of every arm: {primary['start']}. Judge: {primary['judge']}. Steps: {primary['steps']:,}. Begun "
        f"{told['begun'][:10]}; SHA-256 of the registered settings: {told['settings']['sha256']}.",
    ]


def limit_sentences(told: Mapping[str, Any]) -> list[str]:
    """Returns what the study does not say, and what it could not check."""
    sentences = [
        "A distance between sets of features says how alike two sets of images are to one judge. It does not say that an "
        "image is right for its report, nor that it is of any use in a clinic.",
        "The intervals are over training seeds of the language model: image tokenizer, teacher, permutation and untrained "
        "teacher are one draw each, and a result about a teacher is about no other teacher.",
    ]
    infinity = told["primary"]["frechet_infinity"]
    means = {
        arm: sum(values) / len(values)
        for arm, values in infinity["per_arm"].items()
        if values and all(value is not None for value in values)
    }
    if means:
        shown = ", ".join(f"{arm} {mean:.4g}" for arm, mean in means.items())
        sentences.append(f"Primary distance {infinity['note']}: {shown} (means over seeds).")
    if not told["notes"]:
        return [*sentences, "Nothing was left unchecked."]
    return [*sentences, "What could not be checked:", *(f"– {note}." for note in told["notes"])]


def _about_power(detectable: Mapping[str, Any]) -> str:
    return (
        f"What could be found, more exactly: a {detectable['test']}, at a level of {detectable['alpha']:.0%} and a power of "
        f"{detectable['power']:.0%}, from the spread of the {detectable['num_baseline_seeds']} baseline seeds alone "
        f"({detectable['seed_spread']:.3g} as a standard deviation of the log distance). So few seeds know their own spread "
        f"roughly: at the ends of its 95% interval it is {percent(detectable['low'])} or {percent(detectable['high'])}."
    )
