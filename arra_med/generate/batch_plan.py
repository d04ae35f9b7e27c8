"""What a table of prompts comes to: one planned image for each seed, in batches, and which of them are finished."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arra_med.config import StrictModel
from arra_med.errors import GenerationError, ReportError
from arra_med.generate.export import ExportChoice, image_stem, read_provenance
from arra_med.generate.prompt_table import PromptRow
from arra_med.generate.prompting import PromptReader, keyed_hash
from arra_med.generate.request import GenerationRequest
from arra_med.records.row_problems import RowProblems
from arra_med.runs import sha256_json


class PlannedImage(StrictModel):
    """One image to be made.

    Attributes:
        row: Of the table, from 1.
        id: As the table gives it, or empty.
        name: Of its files, between modality and seed.
        request: For this image alone.
        request_sha256: Hash of what was asked for; see `request_sha256`.
        num_tokens: Length of its prompt.
        cautions: What a user should be told before trusting it.
    """

    row: int
    id: str
    name: str
    request: GenerationRequest
    request_sha256: str
    num_tokens: int
    cautions: tuple[str, ...]

    def record_path(self, folder: Path) -> Path:
        """Returns the JSON file beside the image."""
        return folder / f"{image_stem(self.request.modality, self.request.seed, self.name)}.json"


def plan_images(
    path: Path | str,
    rows: Sequence[PromptRow],
    reader: PromptReader,
    bundle_sha256: str,
    check: dict[str, Any] | None = None,
) -> list[PlannedImage]:
    """Returns the images of a table in the order of its rows.

    Args:
        path: Of the table, or its name, for messages.
        rows: Of the table.
        reader: The bundle's.
        bundle_sha256: Fingerprint of the bundle.
        check: What is asked of a check, as `checking.asked_check`; none: nobody checks.

    Raises:
        GenerationError: If a report holds nothing that can become a prompt; all such rows are told at once.
    """
    problems = RowProblems()
    images = []
    for row in rows:
        try:
            prompt = reader.prompt(row.request)
        except ReportError as error:  # its words hold no report text
            problems.add(row.number, f"column 'report': {error}")
            continue
        num_tokens = len(reader.token_ids(prompt))
        hashes = {
            "report_keyed_hash": keyed_hash(row.request.report),
            "prompt_keyed_hash": keyed_hash(prompt.text),
        }
        for index in range(row.request.num_images):
            request = row.request.model_copy(update={"num_images": 1, "seed": row.request.seed + index})
            asked = {
                "bundle": {"sha256": bundle_sha256},
                **hashes,
                "rules": request.rules.model_dump(mode="json"),
                "seed": request.seed,
            }
            if check is not None:
                asked["check"] = {**check, "asked_seed": request.seed, "request": {"images": row.request.num_images}}
            images.append(
                PlannedImage(
                    row=row.number,
                    id=row.id,
                    name=row.name,
                    request=request,
                    request_sha256=request_sha256(asked),
                    num_tokens=num_tokens,
                    cautions=prompt.notices,
                )
            )
    problems.raise_if_any(path, GenerationError)
    return images


def request_sha256(provenance: dict[str, Any]) -> str:
    """Returns the hash of what an image was asked for: bundle, report, prompt, rules, seed and check of its provenance.

    Device, number format and library versions are how it was made, and stand in the provenance beside it. With a check
    the seed is the one that was asked for, and the number of the row's images counts, none of which may repeat another.
    """
    check, names = provenance.get("check"), ("report_keyed_hash", "prompt_keyed_hash", "rules")
    asked = [provenance["bundle"]["sha256"], *(provenance[name] for name in names)]
    if check is None:
        return sha256_json([*asked, provenance["seed"]])
    return sha256_json([*asked, check["asked_seed"], check["gate"], check["tries_at_most"], check["request"]["images"]])


def plan_batches(images: Sequence[PlannedImage], batch_size: int) -> list[list[PlannedImage]]:
    """Groups images into batches, the longest prompts first, since these need the most memory.

    Whole batches hold prompts of one length, so that none is padded. What is left of each length, fewer than
    `batch_size`, is joined in order of length: a few tokens of padding cost less than a batch that is not full.
    """
    longest_first = sorted(images, key=lambda image: -image.num_tokens)
    batches: list[list[PlannedImage]] = []
    leftovers: list[PlannedImage] = []
    for _, group in groupby(longest_first, key=lambda image: image.num_tokens):
        same = list(group)
        num_whole = len(same) // batch_size * batch_size
        batches += chunks(same[:num_whole], batch_size)
        leftovers += same[num_whole:]
    batches += chunks(leftovers, batch_size)
    return sorted(batches, key=lambda batch: -batch[0].num_tokens)


def chunks(images: Sequence[PlannedImage], size: int) -> Iterator[list[PlannedImage]]:
    """Yields images in order, `size` at a time."""
    for start in range(0, len(images), size):
        yield list(images[start : start + size])


def finished_record(image: PlannedImage, folder: Path, export: ExportChoice) -> dict[str, Any] | None:
    """Returns the JSON record of an image that is finished, and was asked for and is to be written just so; else none.

    The picture's own pixels are hashed and compared with its provenance and the record, so that a file of the same name,
    a damaged one, or one of another request is not taken for it.
    """
    record = read_record(image, folder)
    if record is None or ("report" in record) != export.include_report:
        return None
    if "dicom" in export.format and not (folder / str(record.get("dicom_file"))).is_file():
        return None
    picture = folder / str(record.get("file"))
    provenance = read_provenance(picture)
    if provenance is None or provenance.get("pixels_sha256") != record.get("pixels_sha256"):
        return None
    try:
        with Image.open(picture) as opened:
            pixels = np.asarray(opened)
    except (OSError, SyntaxError, ValueError):  # Pillow: SyntaxError for a broken PNG
        return None
    is_whole = hashlib.sha256(pixels.tobytes()).hexdigest() == record["pixels_sha256"]
    return record if is_whole and export.marks.are_those_of(record.get("marks"), pixels) else None


def read_record(image: PlannedImage, folder: Path) -> dict[str, Any] | None:
    """Returns the JSON record beside an image if it tells of the same request; else none."""
    try:
        record = json.loads(image.record_path(folder).read_text(encoding="utf-8"))
        same = request_sha256(record) == image.request_sha256
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same else None
