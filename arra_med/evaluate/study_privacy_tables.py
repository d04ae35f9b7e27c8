"""The privacy part of a study's report: copies of training images among the drawings, and membership by likelihood."""

from collections.abc import Mapping
from typing import Any

from arra_med.evaluate.study_tables import MISSING
from arra_med.reporting.html import Cell
from arra_med.reporting.tables import Table

_TITLE = "Privacy"
_SIGNALS = {"likelihood": "likelihood", "report_gain": "what the report adds"}


def privacy_tables(told: Mapping[str, Any]) -> list[Table]:
    """Returns the tables of what a study's audits found; a part that could not be measured says why."""
    tables = []
    for part, make in (("copies", _copies), ("membership", _membership)):
        found = told.get(part)
        if found and "reason" in found:
            why = (Cell(part), Cell(f"not measured: {found['reason']}"))
            tables.append(Table(f"{_TITLE}: {part}", ("what", "value"), (why,), ""))
        elif found:
            tables += make(found)
    return tables


def _copies(found: Mapping[str, Any]) -> list[Table]:
    threshold, alarms = found["threshold"], found["false_alarms"]
    spaces = list(found["arms"][0]["distances"])
    lowest = f"{found['arms'][0]['distances'][spaces[0]]['quantiles'][0]:.0%}" if spaces else ""
    rows = [
        (
            Cell(row["arm"]),
            Cell(_rate(row["copies"]), True),
            *(Cell(f"{row['distances'][space]['drawn_below_lowest']:.2%}", True) for space in spaces),
        )
        for row in found["arms"]
    ]
    note = (
        f"Drawings of all training seeds. A drawing counts as a copy if it resembles a training image by more than "
        f"{threshold['similarity']:.3f} (SSIM after registration): {threshold['num_images']:,} held-out real images say that at "
        f"most {threshold['false_alarm_rate']:.0%} of such images do ({threshold['confidence']:.0%} confidence), of other "
        f"held-out ones {_rate(alarms)} did. Near: the share of drawings that lie as near to a training image as the nearest "
        f"{lowest} of held-out images do; by chance {lowest}."
    )
    columns = ("arm", "counts as a copy", *(f"near, by {space.replace('_', ' ')}" for space in spaces))
    return [Table(f"{_TITLE}: copies of training images", columns, tuple(rows), note)]


def _membership(found: Mapping[str, Any]) -> list[Table]:
    first = found["per_seed"][0]
    anyone = next(iter(next(iter(first["arms"].values())).values()))
    rows = [
        (
            Cell(arm),
            Cell(_SIGNALS.get(signal, signal)),
            Cell(str(seed["seed"]), True),
            *_pair(attack, 3),
            *_pair(seed["minus_baseline"].get(arm, {}).get(signal)),
        )
        for arm in first["arms"]
        for signal in first["arms"][arm]
        for seed in found["per_seed"]
        for attack in [seed["arms"][arm][signal]]
    ]
    note = (
        f"Can the model's own likelihood tell {anyone['num_members']:,} training images of {first['source']} from "
        f"{anyone['num_others']:,} held-out ones? AUROC: 0.5 is chance. Found at 1%: the share of "
        "training images found where 1% of the held-out ones would be taken for such; 0.01 is chance. Intervals are over "
        "patients. How common an image's tokens are in this source, in which no model has a part, has an AUROC of "
        f"{_interval(first['without_a_model'], 3)}: how far that is from 0.5 says nothing of any model's memory."
    )
    columns = (
        *("arm", "signal", "training seed", "AUROC", "found at 1%"),
        *("AUROC, minus baseline", "found at 1%, minus baseline"),
    )
    tables = [Table(f"{_TITLE}: membership by likelihood", columns, tuple(rows), note)]
    over_seeds = [
        (Cell(arm), Cell(_SIGNALS.get(signal, signal)), *_pair(measures))
        for arm, signals in found["over_seeds"].items()
        for signal, measures in signals.items()
    ]
    if over_seeds:
        tables.insert(
            0,
            Table(
                f"{_TITLE}: membership over seeds",
                ("arm", "signal", "AUROC, minus baseline", "found at 1%, minus baseline"),
                tuple(over_seeds),
                "Mean over training seeds of arm minus baseline, with Student's 95% interval over seeds; above 0 gives more "
                "away.",
            ),
        )
    return tables


def _pair(measures: Mapping[str, Any] | None, decimals: int = 4) -> tuple[Cell, Cell]:
    """AUROC and share found; differences are small and have more decimals than an AUROC."""
    if measures is None:
        return MISSING, MISSING
    return Cell(_interval(measures["auroc"], decimals), True), Cell(_interval(measures["true_positive_rate"]), True)


def _interval(found: Mapping[str, float], decimals: int = 4) -> str:
    middle, low, high = (f"{found[name]:z.{decimals}f}" for name in ("estimate", "low", "high"))
    return f"{middle} [{low}, {high}]"


def _rate(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['count']:,} of {found['total']:,} ({low:.1%} to {high:.1%})"
