"""The tables of a study, from `comparison.json` alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from arra_med.reporting.html import Cell
from arra_med.reporting.tables import Table

MEASURE_NAMES = {
    "kid": "KID",
    "cmmd": "CMMD",
    "frechet_full_width": "Fréchet, full width",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
_HIGHER_IS_NEARER = {"precision", "recall", "density", "coverage"}
_SIGNIFICANT_DIGITS = 4
_OF_THE_INTERVALS = (
    "Differences are paired over seeds. ±: half of Student's 95% interval over seeds, not corrected for the number of "
    "measures, so they describe and do not decide."
)
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
        bounds = [numbers([primary["excess"][arm][end] for end in ("low", "high")], scale=scale) for arm in arms]
        rows.append((Cell("its 95% interval"), *(Cell(f"{low.text} to {high.text}", True) for low, high in bounds)))
    return Table(
        "Primary distance",
        ("training seed", *(f"{arm} ({primary['roles'][arm]})" for arm in arms)),
        tuple(rows),
        f"Squared Fréchet distance on {primary['num_dims']} principal components of {primary['judge']}, lower is nearer to "
        f"the {primary['n']:,} real {primary['split']} images of {primary['num_patients']:,} patients. The tokenizer's floor is the "
        "distance of the same images encoded and decoded: no model on this tokenizer is expected below it. Reals and tokenizer, "
        "and so the floor, are the same for every arm and seed. The interval is Student's over seeds. The "
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
        (
            f"against real {told['primary']['split']} images",
            "images a side",
            "other real images",
            "reconstructed images",
            "generated images",
        ),
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
        "images. Over seeds: Student's interval, which the verdicts go by. Over seeds and patients: when the "
        f"{primary['split']} patients are a sample as well (hierarchical bootstrap without copies). Above the floor: the reduction of what lies above the "
        "tokenizer's floor, over seeds; none where that is not surely above 0 in both arms.",
    )


def secondary_tables(told: Mapping[str, Any]) -> list[Table]:
    """Two tables for each judge: distances with floors and what lies above them, and shares of neighbours."""
    tables = []
    for judge in dict.fromkeys(row["judge"] for row in told["secondary"]):
        mine = [row for row in told["secondary"] if row["judge"] == judge]
        shares = [row for row in mine if row["measure"] in _HIGHER_IS_NEARER]
        if distances := [row for row in mine if row not in shares]:
            tables.append(_distances_table(f"Secondary distances by {judge}", distances))
        if shares:
            columns = ("measure", "arm", "mean over seeds", "difference to the baseline")
            note = f"Higher is nearer. {_OF_THE_INTERVALS}"
            rows = [(name, arm, mean, difference) for name, arm, mean, *_, difference in _measure_rows(shares)]
            tables.append(Table(f"Neighbours by {judge}", columns, tuple(rows), note))
    return tables


def _distances_table(title: str, measures: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        title,
        (
            *("measure", "arm", "mean over seeds", "floor: other real", "floor: reconstructed"),
            *("above reconstructed", "difference to the baseline"),
        ),
        tuple(_measure_rows(measures)),
        "Lower is nearer. Floors: other real images at half the number, where all but KID come out larger, and the very same "
        f"images encoded and decoded, which KID, being unbiased, puts below 0 if nothing was lost. {_OF_THE_INTERVALS}",
    )


def _measure_rows(measures: Sequence[Mapping[str, Any]]) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for row in measures:
        arms = [name for name in row["per_seed"][0] if name != "seed"]
        means = {arm: sum(seed[arm] for seed in row["per_seed"]) / len(row["per_seed"]) for arm in arms}
        floors = [(row["floors"] or {}).get(name) for name in ("half_real_floor", "reconstruction_floor")]
        scale = [*means.values(), *floors]
        for arm in arms:
            plain = numbers([means[arm], *floors], scale=scale)
            intervals = [_interval(row[name].get(arm), scale) for name in ("excess", "differences")]
            rows.append((Cell(measure_name(row["measure"])), Cell(arm), *plain, *intervals))
    return rows


def diversity_table(told: Mapping[str, Any]) -> Table:
    """How alike images of one kind of report are, of every arm and seed and among real images."""
    diversity, arms = told["diversity"], list(told["primary"]["roles"])
    seeds = [row["seed"] for row in told["primary"]["per_seed"]]
    values = [
        {"seed": seed, **{arm: diversity["arms"][arm][at] for arm in arms}, "real images": diversity["real"]["ms_ssim"]}
        for at, seed in enumerate(seeds)
    ]
    real = diversity["real"]
    return Table(
        "Diversity",
        ("training seed", *arms, "real images"),
        tuple(_per_seed_rows(values, [*arms, "real images"])),
        f"{diversity['measure'].capitalize().replace('ms-ssim', 'MS-SSIM')}, lower is more diverse: {real['num_pairs']:,} pairs of "
        f"{real['num_groups']:,} groups, {real['num_scales']} scales, window of {real['window_px']} px. To be compared with "
        "that of the real images, not with 0.",
    )


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
        f"first seed; the scale of the smallest one drew the {told['primary']['split']} images of all its seeds.",
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
        name = f"Fréchet, {measure.removeprefix('frechet_')} components"
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
    middle, half = numbers([found["estimate"], found["high"] - found["estimate"]], scale=scale)
    return Cell(f"{middle.text} ± {half.text}", True)
