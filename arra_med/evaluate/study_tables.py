"""The tables of a study, from `comparison.json` alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from arra_med.reporting.html import Cell
from arra_med.reporting.tables import Table

MEASURE_NAMES = {
    "kid": "KID",
    "cmmd": "CMMD",
    "frechet_full_width": "Fréchet distance at full width",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
_HIGHER_IS_NEARER = {"precision", "recall", "density", "coverage"}
_SIGNIFICANT_DIGITS = 4
MISSING = Cell("–", is_number=True)


def primary_table(told: Mapping[str, Any]) -> Table:
    """The primary distance of every arm and seed, with its mean and what lies above the tokenizer's floor."""
    primary = told["primary"]
    arms, floor = list(primary["roles"]), primary["floors"]["reconstruction_floor"]
    scale = [row[arm] for row in primary["per_seed"] for arm in arms]
    rows = _per_seed_rows(primary["per_seed"], arms, extra=[floor])
    excess = [sum(row[arm] for row in primary["excess_per_seed"]) / len(primary["excess_per_seed"]) for arm in arms]
    rows.append((Cell("tokenizer's floor"), *numbers([floor] * len(arms), scale=scale)))
    rows.append((Cell("mean above the floor"), *numbers(excess, scale=scale)))
    if primary["excess"]:
        for bound in ("low", "high"):
            values = [primary["excess"][arm][bound] for arm in arms]
            rows.append((Cell(f"{bound}, of the mean above"), *numbers(values, scale=scale)))
    return Table(
        "Primary distance",
        ("training seed", *(f"{arm} ({primary['roles'][arm]})" for arm in arms)),
        tuple(rows),
        f"Squared Fréchet distance on {primary['num_dims']} principal components of {primary['judge']}, lower is nearer to "
        f"the {primary['n']:,} real test images of {primary['num_patients']:,} patients. The tokenizer's floor is the "
        "distance of the same images encoded and decoded: no model on this tokenizer is expected below it. Reals and tokenizer, "
        "and so the floor, are the same for every arm and seed. Low and high: Student's 95% interval over seeds. The "
        "registered comparison is of the distance itself; what lies above the floor is secondary.",
    )


def floors_table(told: Mapping[str, Any]) -> Table:
    """Both floors of the primary distance, each at its own number of images."""
    floors = told["primary"]["floors"]
    whole = [None, floors["reconstruction_floor"], floors["value"]]
    half = [floors["half_real_floor"], floors["half_reconstruction_floor"], floors["half_value"]]
    shown = numbers([*whole, *half])
    rows = (
        (Cell("all images"), Cell(f"{floors['num_images']:,}", True), *shown[:3]),
        (Cell("halves of the patients"), Cell(f"{floors['half_num_images']:,}", True), *shown[3:]),
    )
    return Table(
        "Floors",
        ("against real test images", "images a side", "other real images", "reconstructed images", "generated images"),
        rows,
        "A Fréchet distance grows as images get fewer, so compare within a row only. Both floors are the same for every arm "
        "and seed; the generated images are the baseline's first seed. "
        f"Halves: means over {floors['num_splits']} random splits of the patients.",
    )


def effects_table(told: Mapping[str, Any]) -> Table:
    """By how much each arm's primary distance fell, against the baseline and the controls."""
    primary, rows = told["primary"], []
    for effect, above in zip(primary["effects"], primary["excess_effects"], strict=True):
        reduction, both, excess = effect["reduction"], effect["hierarchical"], above["reduction"]
        rows.append(
            (
                Cell(effect["arm"]),
                Cell(f"{effect['against']} ({effect['role_against']})"),
                Cell(percent(reduction["reduction"]), True),
                Cell(_range(reduction), True),
                Cell(_range(both), True) if both else MISSING,
                Cell(f"{percent(excess['reduction'])} ({_range(excess)})", True) if excess else MISSING,
            )
        )
    first = primary["effects"][0]["reduction"]
    return Table(
        "Effects",
        ("arm", "against", "reduction", "95% over seeds", "95% over seeds and patients", "above the floor (secondary)"),
        tuple(rows),
        f"Reduction of the primary distance, paired over {first['num_seeds']} training seeds; positive is nearer to real "
        "images. Over seeds: Student's interval, which the verdicts go by. Over seeds and patients: when the test patients "
        "are a sample as well (hierarchical bootstrap without copies). Above the floor: the reduction of what lies above the "
        "tokenizer's floor, over seeds; none where that is not surely above 0 in both arms.",
    )


def secondary_tables(told: Mapping[str, Any]) -> list[Table]:
    """One table for each judge: means over seeds, floors, what lies above, and paired differences to the baseline."""
    tables = []
    arms = list(told["primary"]["roles"])
    for judge in dict.fromkeys(row["judge"] for row in told["secondary"]):
        rows: list[tuple[Cell, ...]] = []
        for row in (row for row in told["secondary"] if row["judge"] == judge):
            means = {arm: sum(seed[arm] for seed in row["per_seed"]) / len(row["per_seed"]) for arm in arms}
            floors = [(row["floors"] or {}).get(name) for name in ("half_real_floor", "reconstruction_floor")]
            scale = [*means.values(), floors[1]]
            for arm in arms:
                plain = numbers([means[arm], *floors], scale=scale)
                intervals = [_interval(row[name].get(arm), scale) for name in ("excess", "differences")]
                rows.append((Cell(measure_name(row["measure"])), Cell(arm), *plain, *intervals))
        columns = ("mean over seeds", "floor: other real", "floor: reconstructed", "above the latter", "difference")
        tables.append(
            Table(
                f"Secondary measures by {judge}",
                ("measure", "arm", *columns),
                tuple(rows),
                "Floors: other real images at half their number, where a Fréchet distance and CMMD are larger, and the same "
                "images encoded and decoded. Difference: to the baseline, paired over seeds. In brackets Student's 95% "
                "intervals over seeds, not corrected for their number, so they describe and do not decide. Higher is "
                "nearer for precision, recall, density and coverage, which have no floors.",
            )
        )
    return tables


def guidance_table(told: Mapping[str, Any]) -> Table:
    """What each arm's sweep of guidance found on the validation images."""
    scales = list(dict.fromkeys(scale for sweep in told["guidance"].values() for scale in sweep["distances"]))
    every = [distance for sweep in told["guidance"].values() for distance in sweep["distances"].values()]
    rows = []
    for arm, sweep in told["guidance"].items():
        shown = numbers([sweep["distances"].get(scale) for scale in scales], scale=every)
        rows.append((Cell(arm), *shown, Cell(f"{sweep['chosen']:g}", True)))
    num_images = {sweep["num_images"] for sweep in told["guidance"].values()}
    return Table(
        "Guidance",
        ("arm", *(f"scale {scale}" for scale in scales), "chosen"),
        tuple(rows),
        f"Primary distance on {', '.join(f'{number:,}' for number in sorted(num_images))} validation images of each arm's "
        "first seed; the scale of the smallest one drew the test images of all its seeds.",
    )


def loss_table(told: Mapping[str, Any]) -> Table:
    """The held-out loss of every arm and seed, and paired differences to the baseline."""
    losses, arms = told["held_out_loss"], list(told["primary"]["roles"])
    rows = _per_seed_rows(losses["per_seed"], arms)
    scale = [row[arm] for row in losses["per_seed"] for arm in arms]
    for name, words in (("estimate", "difference"), ("low", "low"), ("high", "high")):
        values = [losses["differences"].get(arm, {}).get(name) for arm in arms]
        rows.append((Cell(words), *numbers(values, scale=scale)))
    return Table(
        "Held-out loss",
        ("training seed", *arms),
        tuple(rows),
        f"In {losses['unit']}; lower is better. Differences to the baseline, paired over seeds, with Student's 95% interval.",
    )


def compute_table(told: Mapping[str, Any]) -> Table:
    """How long the trainings took."""
    rows = []
    for arm, seconds in told["compute"]["seconds_per_training"].items():
        shown = [sum(seconds) / len(seconds), min(seconds), max(seconds), sum(seconds)]
        rows.append((Cell(arm), Cell(str(len(seconds)), True), *(Cell(f"{value:,.0f}", True) for value in shown)))
    return Table(
        "Compute",
        ("arm", "trainings", "mean seconds", "fewest", "most", "sum"),
        tuple(rows),
        "Seconds of wall time; of a training that was stopped, those since it went on.",
    )


def measure_name(measure: str) -> str:
    """Returns what a measure is called in a table, with the direction where higher is nearer."""
    name = MEASURE_NAMES.get(measure)
    if name is None and measure.startswith("frechet_"):
        name = f"Fréchet distance on {measure.removeprefix('frechet_')} components"
    return (name or readable(measure)) + (" ↑" if measure in _HIGHER_IS_NEARER else "")


def readable(name: str) -> str:
    """Returns a key as words: `num_images` is `images`."""
    return name.removeprefix("num_").replace("_", " ")


def numbers(values: Sequence[float | None], scale: Sequence[float | None] | None = None) -> list[Cell]:
    """Returns numbers with as many decimals as the largest of them, or of `scale`, has room for: a column lines up."""
    largest = max((abs(value) for value in (scale or values) if value), default=1.0)
    decimals = min(max(_SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(largest)), 0), 8)
    return [MISSING if value is None else Cell(f"{value:z,.{decimals}f}", True) for value in values]


def percent(share: float) -> str:
    """Returns a share as text, never as -0.0%."""
    return f"{share:z.1%}"


def _per_seed_rows(
    per_seed: Sequence[Mapping[str, float]], arms: Sequence[str], extra: Sequence[float] = ()
) -> list[tuple[Cell, ...]]:
    scale = [row[arm] for row in per_seed for arm in arms] + list(extra)
    rows = [(Cell(str(row["seed"])), *numbers([row[arm] for arm in arms], scale=scale)) for row in per_seed]
    means = [sum(row[arm] for row in per_seed) / len(per_seed) for arm in arms]
    return [*rows, (Cell("mean"), *numbers(means, scale=scale))]


def _range(bounds: Mapping[str, float]) -> str:
    return f"{percent(bounds['low'])} to {percent(bounds['high'])}"


def _interval(found: Mapping[str, float] | None, scale: Sequence[float | None]) -> Cell:
    if found is None:
        return MISSING
    middle, low, high = numbers([found[name] for name in ("estimate", "low", "high")], scale=scale)
    return Cell(f"{middle.text} [{low.text}, {high.text}]", True)
