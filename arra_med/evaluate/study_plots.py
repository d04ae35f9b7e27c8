"""The plots of a study, as PNG and SVG whose bytes depend on the numbers alone."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from arra_med.runs import atomic_file

PLOTS_FOLDER = "plots"

_STYLE = {
    "font.family": "DejaVu Sans",  # travels with matplotlib: the same letters everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "svg.hashsalt": "arra-med",
    "svg.fonttype": "path",
}
_PNG_DPI = 150
_LONG_NAME = 12  # characters that stand side by side under eight arms
_COLOURS = ("#4b5563", "#0e7490", "#c0572b", "#7c3aed", "#1f8a4c", "#b4327a", "#8a6d1c", "#2b62c9")
_FLOOR = "#9aa3af"
_CURVES = {
    "eval_image_token_loss": "Held-out loss, nats per image token",
    "image_token_loss": "Training loss, nats per image token, running mean",
    "alignment_loss": "Alignment loss, running mean",
}

Log = Sequence[Mapping[str, float]]
"""The lines of one training's `log.json`."""


def write_plots(out: Path, told: Mapping[str, Any]) -> dict[str, bytes]:
    """Draws the plots of a study into `out/plots`, each as PNG and SVG.

    Args:
        out: The study's folder; the curves come from the trainings' logs, where they are there.
        told: What `comparison.json` says.

    Returns:
        SVG by name: `seeds`; `reductions`, where there are several seeds; `curves`, where there are logs.
    """
    logs = _read_logs(out, told)
    with plot_style():
        figures = {"seeds": _seeds(told["primary"])}
        if told["primary"]["effects"]:
            figures["reductions"] = _reductions(told["primary"])
        if logs:
            figures["curves"] = _curves(logs)
        drawn = {}
        for name, figure in figures.items():
            drawn[name] = _bytes(figure, "svg", {"Date": None, "Creator": None})
            _write(out / PLOTS_FOLDER / f"{name}.svg", drawn[name])
            _write(out / PLOTS_FOLDER / f"{name}.png", _bytes(figure, "png", {"Software": None}))
    return drawn


def plot_style() -> AbstractContextManager[None]:
    """Returns a context in which figures look alike, whatever machine draws them."""
    return matplotlib.rc_context(_STYLE)  # type: ignore[arg-type]


def _seeds(primary: Mapping[str, Any]) -> Figure:
    """One line for each seed from arm to arm; the floors below."""
    arms, rows, floors = list(primary["roles"]), primary["per_seed"], primary["floors"]
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    places = range(len(arms))
    for row in rows:
        axes.plot(places, [row[arm] for arm in arms], color="#c3cad4", linewidth=1, zorder=1)
    for place, arm in enumerate(arms):
        values = [row[arm] for row in rows]
        colour = _colour(place)
        axes.plot([place] * len(values), values, "o", color=colour, markersize=5, alpha=0.85, zorder=2)
        axes.plot([place - 0.18, place + 0.18], [sum(values) / len(values)] * 2, color=colour, linewidth=2.2, zorder=3)
    for value, style, words in (
        (floors["reconstruction_floor"], "--", f"reconstructed, {floors['num_images']} images"),
        (floors["half_real_floor"], ":", f"other real, {floors['half_num_images']} images"),
    ):
        axes.axhline(value, color=_FLOOR, linestyle=style, linewidth=1.1, zorder=0, label=words)
    axes.set_xticks(places, [_wrapped(arm, primary["roles"][arm]) for arm in arms])
    axes.set_xlim(-0.5, len(arms) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("distance to real images")
    axes.set_title("Primary distance: one point for each training, one line for each seed, bars are means")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _reductions(primary: Mapping[str, Any]) -> Figure:
    """A forest plot: t interval over seeds as a thick bar, the interval over seeds and patients as a thin one."""
    effects = primary["effects"]
    figure = Figure(figsize=(7, 1.6 + 0.42 * len(effects)), layout="constrained")
    axes = figure.subplots()
    arms = list(primary["roles"])
    for place, effect in enumerate(effects):
        colour, reduction, both = _colour(arms.index(effect["arm"])), effect["reduction"], effect["hierarchical"]
        if both is not None:
            ends = [100 * both["low"], 100 * both["high"]]
            axes.plot(ends, [place, place], color=colour, linewidth=1, marker="|", markersize=9)
        axes.plot(
            [100 * reduction["low"], 100 * reduction["high"]], [place, place], color=colour, linewidth=3.5, alpha=0.55
        )
        axes.plot(100 * reduction["reduction"], place, "o", color=colour, markersize=6)
    axes.axvline(0, color="#1a2029", linewidth=0.9)
    detectable = 100 * primary["detectable"]["reduction"]
    axes.axvline(
        detectable, color=_FLOOR, linestyle=":", linewidth=1.2, label=f"smallest detectable, {detectable:.1f}%"
    )
    paper = 100 * primary["paper_reduction"]
    axes.axvline(paper, color=_FLOOR, linestyle="--", linewidth=1.2, label=f"the paper's, {paper:.0f}%")
    axes.set_yticks(range(len(effects)), [_pair(effect["arm"], effect["against"]) for effect in effects])
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_xlabel("reduction, % (positive: nearer to real)")
    figure.suptitle("95% intervals: thick over seeds, thin over seeds and patients", x=0.01, ha="left", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _curves(logs: Mapping[str, Sequence[Log]]) -> Figure:
    """Losses by step; a line for each seed in its arm's colour."""
    there = {
        key: words for key, words in _CURVES.items() if any(_points(log, key)[0] for of in logs.values() for log in of)
    }
    figure = Figure(figsize=(7, 2.6 * len(there) + 0.5), layout="constrained")
    panels: list[Axes] = list(figure.subplots(len(there), 1, squeeze=False)[:, 0])
    for axes, (key, words) in zip(panels, there.items(), strict=True):
        for place, (arm, its_logs) in enumerate(logs.items()):
            for number, log in enumerate(its_logs):
                steps, values = _points(log, key)
                values = values if key.startswith("eval") else _smooth(values)
                style = "-" if place < len(_COLOURS) else "--"
                label = arm if number == 0 and axes is panels[0] else None
                axes.plot(steps, values, style, color=_colour(place), linewidth=1.1, alpha=0.75, label=label)
        axes.set_title(words)
        axes.set_xlabel("optimiser step")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def _points(log: Log, key: str) -> tuple[list[float], list[float]]:
    rows = [row for row in log if key in row]
    return [row["step"] for row in rows], [row[key] for row in rows]


def _read_logs(out: Path, told: Mapping[str, Any]) -> dict[str, list[Log]]:
    logs = {}
    for arm in told["primary"]["roles"]:
        paths = [out / "arms" / arm / f"seed_{row['seed']}" / "log.json" for row in told["primary"]["per_seed"]]
        if found := [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]:
            logs[arm] = found
    return logs


def _colour(place: int) -> str:
    return _COLOURS[place % len(_COLOURS)]


def _pair(arm: str, against: str) -> str:
    break_or_space = "\n" if len(arm) + len(against) > 2 * _LONG_NAME else " "
    return f"{arm}{break_or_space}against {against}"


def _smooth(values: Sequence[float]) -> list[float]:
    """A running mean over the last fiftieth of the steps."""
    window = max(len(values) // 50, 1)
    return [sum(values[max(0, end - window) : end]) / min(end, window) for end in range(1, len(values) + 1)]


def _wrapped(arm: str, role: str) -> str:
    name = arm.replace("_", "_\n").replace("-", "-\n") if len(arm) > _LONG_NAME else arm
    return f"{name}\n{role}"


def _bytes(figure: Figure, kind: str, metadata: Mapping[str, None]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=_PNG_DPI, metadata=dict(metadata))
    return stream.getvalue()


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path) as partial:
        partial.write_bytes(content)
