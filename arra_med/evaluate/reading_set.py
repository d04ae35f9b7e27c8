"""A blinded set for people to read: images of several arms, mixed, with nothing on them or beside them that tells which.

The folder may go to readers; the key, a file outside it, may not. Real images in the set are patients' images.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

import arra_med
from arra_med.config import StrictModel
from arra_med.corpus.study_rows import encode_png
from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError, ReportError
from arra_med.evaluate.held_out import one_source
from arra_med.evaluate.image_folder import read_view_folder
from arra_med.imaging.view import Modality
from arra_med.records.report import report_prompt
from arra_med.records.study import Split
from arra_med.reporting.reading_page import ReadingImage, reading_page
from arra_med.runs import atomic_file, atomic_folder, sha256_json, versions, write_json

FORMAT_VERSION = 1
PAGE_FILE, README_FILE, TABLE_FILE, IMAGES_FOLDER = "reading.html", "README.txt", "images.csv", "images"
REAL, RECONSTRUCTED = "real", "reconstructed"
Role = Literal["real", "reconstructed", "synthetic"]

BANNER = "Mixed synthetic and real images. Research use only, not for clinical decisions. Sensitive: do not pass on."
README = """A blinded reading set

This set mixes synthetic images, made by machine-learning models, with real ones, in a random order.
It is for research use only, not for clinical decisions.

SENSITIVE: some of the images are, or are made from, images of patients. Keep this folder where patients' images may be
kept, do not pass it on, and delete it when the reading is over.

Open reading.html in a browser. It works without a network and sends nothing. Enter your reader name, judge each image
by itself, and save your answers with the button below; give that CSV file to whoever runs the study.
Do not look for copies of an image, and do not talk about single images with other readers before all have finished.
"""


@dataclass(frozen=True)
class ReadingArm:
    """The images of one arm.

    Attributes:
        name: `real` (patients' images), `reconstructed` (the same after encoding and decoding) or any other, which is
            then synthetic.
        views: uint8 (C, S, S) each.
        reports: What each image should show, as readers see it; "" where nothing is known.
        origins: For the key: where each image is from, such as its image id; no file name.
    """

    name: str
    views: Sequence[np.ndarray]
    reports: Sequence[str]
    origins: Sequence[str]

    @property
    def role(self) -> Role:
        """What the right answer about its images is."""
        if self.name == REAL:
            return "real"
        return "reconstructed" if self.name == RECONSTRUCTED else "synthetic"


class KeyImage(StrictModel):
    """What the key says of one image: its name in the set, arm, origin, pixels, and whether it has a report."""

    image: str
    arm: str
    origin: str
    pixels_sha256: str
    has_report: bool


class ReadingKey(StrictModel):
    """What tells the arms apart.

    Attributes:
        format_version: Of the file.
        notice: Why it must not reach readers.
        set_id: Names the set; it stands in the page and in the answers.
        seed: Of the choice and the order.
        arms: Role of each arm.
        images: In the order of reading.
        versions: Of Python and the libraries.
    """

    format_version: int = FORMAT_VERSION
    notice: str = "Sensitive: this key breaks the blinding. Keep it from the readers and out of their folder."
    set_id: str
    seed: int
    arms: dict[str, Role]
    images: tuple[KeyImage, ...]
    versions: dict[str, str]


def arm_of_studies(studies: StudySet, split: Split | None = None, source: str | None = None) -> ReadingArm:
    """Returns the real arm from a study set.

    Raises:
        StudySetError: If the split and source hold no image.
    """
    chosen = one_source(studies, split, source)
    records = chosen.records()
    reports = [shown_report(record.report, record.modality) for record in records]
    views = [chosen.view(row) for row in range(len(chosen))]
    return ReadingArm(REAL, views, reports, [record.image_id for record in records])


def arm_of_folder(name: str, folder: Path, modality: Modality) -> ReadingArm:
    """Returns an arm from a folder of views, each with its report in a .txt file beside it.

    Raises:
        EvaluationError: As `read_view_folder`.
    """
    found = read_view_folder(folder, modality)
    reports = [shown_report(report, modality) for report in found.reports]
    return ReadingArm(name, found.views, reports, [f"number {n}" for n in range(1, len(reports) + 1)])


def shown_report(report: str, modality: Modality) -> str:
    """Returns a report as readers see it, without identifiers and worded alike in all arms."""
    try:
        return report_prompt(report, modality=modality).text
    except ReportError:
        return ""


def export_reading_set(
    arms: Sequence[ReadingArm],
    out: Path,
    key: Path,
    *,
    per_arm: int | None = None,
    seed: int = 0,
    with_reports: bool = True,
) -> ReadingKey:
    """Writes the folder for readers and the key.

    Args:
        arms: At least two.
        out: The folder; it must not be there yet.
        key: The key's file, mode 0600, outside `out`; it must not be there yet.
        per_arm: Images of each arm; by default as many as the smallest arm has.
        seed: Of the choice and the order.
        with_reports: Whether readers see the reports and are asked for the finding.

    Raises:
        EvaluationError: If files are there already, the key would lie in the folder, arms are too few, too small, of
            one name or of several sizes, an image occurs twice, or only some images have a report.
    """
    _check_places(out, key)
    per_arm = check_arms(arms, per_arm)
    rng = np.random.default_rng(seed)
    chosen = [(arm, int(row)) for arm in arms for row in sorted(rng.permutation(len(arm.views))[:per_arm])]
    chosen = [chosen[place] for place in rng.permutation(len(chosen))]
    pngs = [encode_png(arm.views[row]) for arm, row in chosen]
    pixels = [hashlib.sha256(np.ascontiguousarray(arm.views[row]).tobytes()).hexdigest() for arm, row in chosen]
    check_copies(chosen, pixels)
    reports = [arm.reports[row] if with_reports else "" for arm, row in chosen]
    check_reports(chosen, reports)
    set_id = sha256_json([seed, pixels])[:16]
    names = [f"img-{sha256_json([set_id, place])[:10]}" for place in range(len(chosen))]
    described = ReadingKey(
        set_id=set_id,
        seed=seed,
        arms={arm.name: arm.role for arm in arms},
        images=tuple(
            KeyImage(image=name, arm=arm.name, origin=arm.origins[row], pixels_sha256=its, has_report=bool(report))
            for name, (arm, row), its, report in zip(names, chosen, pixels, reports, strict=True)
        ),
        versions=versions(),
    )
    images = [ReadingImage(*one) for one in zip(names, pngs, reports, strict=True)]
    with atomic_folder(out) as partial:
        _write_folder(partial, set_id, images)
        write_json(key, described.model_dump(mode="json"), mode=0o600)
    out.chmod(0o700)
    return described


def read_key(path: Path) -> ReadingKey:
    """Reads a key.

    Raises:
        EvaluationError: If it is missing, damaged or of another format version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and values.get("format_version") != FORMAT_VERSION:
            raise EvaluationError(
                f"{path}: has format version {values.get('format_version')}, this program reads {FORMAT_VERSION}"
            )
        return ReadingKey.model_validate(values)
    except FileNotFoundError:
        raise EvaluationError(f"{path}: is not there; give the key that `arra-med reading export` wrote") from None
    except (OSError, ValueError, pydantic.ValidationError):
        raise EvaluationError(f"{path}: is damaged or no key of a reading set; copy it again") from None


def _write_folder(folder: Path, set_id: str, images: Sequence[ReadingImage]) -> None:
    (folder / IMAGES_FOLDER).mkdir()
    for image in images:
        (folder / IMAGES_FOLDER / f"{image.name}.png").write_bytes(image.png)
    with atomic_file(folder / TABLE_FILE) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "report"))
        writer.writerows((image.name, image.report) for image in images)
    (folder / README_FILE).write_text(README, encoding="utf-8")
    footer = f"ARRA-Med {arra_med.__version__}, set {set_id}. Mixed synthetic and real images, research use only."
    page = reading_page("Reading set", BANNER, set_id, images, footer)
    (folder / PAGE_FILE).write_text(page, encoding="utf-8")


def _check_places(out: Path, key: Path) -> None:
    if out.resolve() in key.resolve().parents:
        raise EvaluationError(f"{key}: lies in the readers' folder, where it would break the blinding; choose another")
    for path, what in ((out, "--out"), (key, "--key")):
        if path.exists():
            raise EvaluationError(f"{path}: is there already and may be in use; choose another {what}")


def check_arms(arms: Sequence[ReadingArm], per_arm: int | None, *, at_least: int = 2) -> int:
    """Returns how many images of each arm are read.

    Raises:
        EvaluationError: If arms are too few, too small, of one name, or of several sizes.
    """
    names = Counter(arm.name for arm in arms)
    if len(arms) < at_least or max(names.values()) > 1:
        raise EvaluationError(
            f"{len(arms)} arms with {len(names)} names were given; at least {('one is', 'two are')[at_least - 1]} "
            "required, named apart"
        )
    shapes = {arm.name: sorted({view.shape for view in arm.views}) for arm in arms}
    if len({shape for found in shapes.values() for shape in found}) > 1:
        told = ", ".join(f"{name} {' and '.join('x'.join(map(str, s)) for s in its)}" for name, its in shapes.items())
        raise EvaluationError(f"images of one size and kind are required, or they tell the arms apart; found {told}")
    sizes = {arm.name: len(arm.views) for arm in arms}
    wanted = min(sizes.values()) if per_arm is None else per_arm
    if wanted < 1 or wanted > min(sizes.values()):
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise EvaluationError(f"{wanted} images of each arm are wanted and the arms hold {told}: lower --per-arm")
    return wanted


def check_copies(chosen: Sequence[tuple[ReadingArm, int]], pixels: Sequence[str]) -> None:
    """Refuses images that occur more than once.

    Args:
        chosen: Arm and row of each image.
        pixels: Hash of each image's pixels.

    Raises:
        EvaluationError: If two hashes are equal.
    """
    counts = Counter(pixels)
    copied = {arm.name for (arm, _), its in zip(chosen, pixels, strict=True) if counts[its] > 1}
    if copied:
        raise EvaluationError(
            f"{sum(count > 1 for count in counts.values())} images occur more than once (in {', '.join(sorted(copied))}), "
            "and readers would know them again: take the copies out"
        )


def check_reports(chosen: Sequence[tuple[ReadingArm, int]], reports: Sequence[str]) -> None:
    """Refuses reports for only some images.

    Raises:
        EvaluationError: If some of the reports are empty, but not all.
    """
    without = Counter(arm.name for (arm, _), report in zip(chosen, reports, strict=True) if not report)
    if 0 < sum(without.values()) < len(chosen):
        told = ", ".join(f"{count} of {name}" for name, count in sorted(without.items()))
        raise EvaluationError(
            f"some images have no report ({told}), which tells the arms apart: put a .txt file beside each image, or give "
            "--no-reports"
        )
