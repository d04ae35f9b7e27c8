"""A finished study as one Markdown page with small figures beside it, for a repository: nothing that may not be passed on."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from arra_med.evaluate.study_answer import limit_sentences, opening_sentences
from arra_med.evaluate.study_plots import PLOTS_FOLDER, plot_style
from arra_med.evaluate.study_report import PLOT_WORDS, report_tables
from arra_med.evaluate.study_samples import Sample
from arra_med.generate.session import SYNTHETIC_NOTICE
from arra_med.reporting.tables import escaped, markdown
from arra_med.runs import atomic_file

_CELL_INCHES = 1.15
_SHEET_DPI = 110
_JPEG_QUALITY = 85
_PLOT_COLOURS = 64  # of a few inks and their edges


def write_page(folder: Path, out: Path, told: Mapping[str, Any], samples: Sequence[Sample]) -> Path:
    """Writes `folder/<study>.md`, its plots and one sheet of samples.

    Args:
        folder: Such as `docs/results`; files of other names in it are left alone.
        out: The study's folder, in which `write_report` has drawn the plots.
        told: What `comparison.json` says.
        samples: Those whose real image may not be passed on are left out, with everything that was made from their report.

    Returns:
        The page.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", told["name"])
    opening = [escaped(sentence) for sentence in opening_sentences(told)]
    for plot, words in PLOT_WORDS.items():
        source, figure = out / PLOTS_FOLDER / f"{plot}.png", f"{name}_{plot}.png"
        if source.is_file():
            with atomic_file(folder / figure) as partial, Image.open(source) as plot_image:
                plot_image.convert("RGB").quantize(_PLOT_COLOURS).save(partial, format="PNG", optimize=True)
            opening.append(f"![{escaped(words)}]({figure})")
    if open_samples := [sample for sample in samples if any(picture.kind == "real" for picture in sample.pictures)]:
        with atomic_file(folder / f"{name}_samples.jpg") as partial:
            partial.write_bytes(sample_sheet(open_samples))
        opening += _about_samples(open_samples, f"{name}_samples.jpg")
    closing = ["## Limits", *(escaped(sentence) for sentence in limit_sentences(told))]
    text = markdown(report_tables(told), f"Study {told['name']}", SYNTHETIC_NOTICE, opening, closing)
    with atomic_file(folder / f"{name}.md") as partial:
        partial.write_text(text, encoding="utf-8")
    return folder / f"{name}.md"


def sample_sheet(samples: Sequence[Sample]) -> bytes:
    """Returns a JPEG of all samples: a row for each, a column for the real image, its reconstruction and every arm."""
    columns = len(samples[0].pictures)
    size = (_CELL_INCHES * columns, _CELL_INCHES * len(samples) + 0.7)
    with plot_style():
        figure = Figure(figsize=size, layout="constrained")
        for row, places in enumerate(figure.subplots(len(samples), columns, squeeze=False)):
            for axes, picture in zip(places, samples[row].pictures, strict=True):
                axes.imshow(picture.pixels, cmap="gray", vmin=0, vmax=255)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
                if row == 0:
                    axes.set_title(f"{picture.kind}\n{picture.name}".strip(), fontsize=7)
            places[0].set_ylabel(str(row + 1), rotation=0, labelpad=8)
        figure.supxlabel(SYNTHETIC_NOTICE, fontsize=7)
        stream = io.BytesIO()
        figure.savefig(stream, format="jpg", dpi=_SHEET_DPI, pil_kwargs={"quality": _JPEG_QUALITY})
    return stream.getvalue()


def _about_samples(samples: Sequence[Sample], file: str) -> list[str]:
    attributions = dict.fromkeys(
        picture.attribution for sample in samples for picture in sample.pictures if picture.attribution
    )
    rows = "; ".join(
        f"{number}, seed {sample.image_seed}: {sample.words}" for number, sample in enumerate(samples, start=1)
    )
    words = (
        f"Held-out studies chosen by a hash, not by eye; one image seed a row, training seed {samples[0].training_seed} of "
        f"every arm. Prompts or findings: {rows}."
    )
    owed = f" Real images: {'; '.join(attributions)}." if attributions else ""
    return [f"![Samples, a row for each held-out study]({file})", f"*{escaped(words + owed)}*"]
