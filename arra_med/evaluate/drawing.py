"""The images that are judged: one for each held-out report, kept losslessly, and the real ones through the tokenizer.

A folder holds one drawing: `drawing.json`, written first, says what of; shards of PNG-encoded images follow, each whole or
not there. The same call goes on where it was stopped, and reads a finished drawing back.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from arra_med.config import StrictModel
from arra_med.corpus.description import read_description, write_description
from arra_med.corpus.parquet import (
    clear_disk_errors,
    clear_leftovers,
    is_finished,
    iter_rows,
    progress_bar,
    shard_path,
    shard_paths,
    write_table,
)
from arra_med.corpus.study_rows import decode_png, encode_png
from arra_med.errors import EvaluationError
from arra_med.generate.decoding import DecodingBackend, decode_image_tokens, open_backend
from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import SYNTHETIC_NOTICE
from arra_med.imaging.view import CanonicalView, from_uint8, to_uint8
from arra_med.models.bundle import ModelBundle
from arra_med.records.cards import LicenceClass
from arra_med.records.study import StudyRecord
from arra_med.records.wording import prompt_text
from arra_med.runs import sha256_json

FORMAT_VERSION = 1
DESCRIPTION_FILE = "drawing.json"
SHARD_IMAGES = 32

_SCHEMA = pa.schema([("row", pa.int64()), ("png", pa.binary())])
_TOLD_APART = ("bundle_sha256", "dtype", "device", "rules", "seed", "num_images", "prompts_sha256", "spec")


class DrawingInfo(StrictModel):
    """What `drawing.json` says.

    Attributes:
        format_version: Of this file and the shards.
        notice: That the images are synthetic.
        licence_class: Of the bundle.
        bundle_sha256: Fingerprint of the bundle.
        dtype: Number format of its language model.
        device: Kind of device that it ran on.
        backend: Decoder that drew.
        rules: Guidance and sampling.
        seed: Of image 0; image i has `seed + i`.
        num_images: Images.
        prompts_sha256: Hash of the list of prompts.
        spec: The canonical view of the images.
    """

    format_version: int = FORMAT_VERSION
    notice: str = SYNTHETIC_NOTICE
    licence_class: LicenceClass
    bundle_sha256: str
    dtype: str
    device: str
    backend: str = "transformers"
    rules: SamplingRules
    seed: int
    num_images: int
    prompts_sha256: str
    spec: CanonicalView

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the pixels."""
        told = self.model_dump(mode="json", include=set(_TOLD_APART))
        return sha256_json(told if self.backend == "transformers" else {**told, "backend": self.backend})


def held_out_prompts(bundle: ModelBundle, records: Sequence[StudyRecord]) -> list[str]:
    """Returns the prompt of each study: its own words, or its labels' wording, drawn by its `image_id` alone.

    All bundles, arms and seeds are given the same prompts, but for those that a bundle's longest prompt cuts at a
    sentence's end.
    """

    def count_tokens(text: str) -> int:
        return len(bundle.layout.text_ids(bundle.text_tokenizer, text))

    prompts = []
    for record in records:
        text = prompt_text(record, random.Random(record.image_id))
        if count_tokens(text) > bundle.layout.max_text_tokens:
            text = prompt_text(
                record,
                random.Random(record.image_id),
                count_tokens=count_tokens,
                max_tokens=bundle.layout.max_text_tokens,
            )
        prompts.append(text)
    return prompts


def draw_images(
    bundle: ModelBundle,
    records: Sequence[StudyRecord],
    rules: SamplingRules,
    *,
    seed: int,
    out: Path,
    batch_size: int = 16,
    name: str = "",
    progress: bool = True,
) -> np.ndarray:
    """Draws one image for each study, or reads back what an earlier call with the same arguments drew.

    Args:
        bundle: The model, on the device to use.
        records: Held-out studies; `held_out_prompts` are their prompts.
        rules: Guidance and sampling.
        seed: Of image 0; image i has `seed + i`, whatever the batches.
        out: Folder of this drawing alone; made if missing.
        batch_size: Images decoded together.
        name: What the progress bar says.
        progress: Show one on stderr.

    Returns:
        uint8 (n, C, S, S), in the order of the records.

    Raises:
        EvaluationError: If there is no record, `out` holds another drawing (nothing is overwritten), or a shard is damaged.
        GenerationError: If the model is damaged or too short for its prompts.
    """
    if not records or batch_size < 1:
        raise EvaluationError(f"{len(records)} studies in batches of {batch_size}: give at least one study and batch")
    prompts = held_out_prompts(bundle, records)
    backend = open_backend(_backend_of(out), bundle.model, bundle.layout)
    info = _describe(bundle, backend.name, rules, seed, prompts)
    with clear_disk_errors(EvaluationError, out):
        _claim(out, info)
        starts = range(0, len(prompts), SHARD_IMAGES)
        with progress_bar(name or "Drawing", len(prompts), progress) as advance:
            for index, start in enumerate(starts):
                rows = range(start, min(start + SHARD_IMAGES, len(prompts)))
                path, fingerprint = shard_path(out, index), f"{info.fingerprint}-{index}"
                if is_finished(path, fingerprint):
                    advance(len(rows))
                    continue
                made = []
                for first in range(0, len(rows), batch_size):
                    batch = rows[first : first + batch_size]
                    made += _draw_batch(
                        bundle, [prompts[row] for row in batch], rules, [seed + row for row in batch], backend
                    )
                    advance(len(batch))
                table = [{"row": row, "png": encode_png(image)} for row, image in zip(rows, made, strict=True)]
                write_table(path, table, _SCHEMA, {"fingerprint": fingerprint, "notice": SYNTHETIC_NOTICE})
    return read_drawing(out)


def read_drawing_info(folder: Path) -> DrawingInfo:
    """Reads `drawing.json`.

    Raises:
        EvaluationError: If it is missing, damaged or of another format version.
    """
    return read_description(
        folder / DESCRIPTION_FILE,
        DrawingInfo,
        format_versions=(FORMAT_VERSION,),
        what="drawing of images",
        command="arra-med evaluate fidelity",
        error=EvaluationError,
    )


def read_drawing(folder: Path) -> np.ndarray:
    """Reads a finished drawing: uint8 (n, C, S, S).

    Raises:
        EvaluationError: If the folder holds none, or a shard is missing or damaged.
    """
    info = read_drawing_info(folder)
    images: list[np.ndarray] = []
    for index in range(-(-info.num_images // SHARD_IMAGES)):
        path = shard_path(folder, index)
        if not is_finished(path, f"{info.fingerprint}-{index}"):
            raise EvaluationError(f"{path}: is missing, damaged or of another drawing: draw into this folder again")
        try:
            images += [decode_png(row["png"]) for row in iter_rows([path], ["png"])]
        except (OSError, SyntaxError, ValueError, pa.ArrowException):  # Pillow: SyntaxError for a broken PNG
            raise EvaluationError(f"{path}: holds an image that is damaged: delete it and draw again") from None
    shapes = sorted({image.shape for image in images})
    expected = (info.spec.channels, info.spec.size_px, info.spec.size_px)
    if shapes != [expected] or len(images) != info.num_images:
        raise EvaluationError(f"{folder}: its shards do not hold {info.num_images} images {expected}: draw them again")
    return np.stack(images)


@torch.no_grad()
def reconstruct_images(bundle: ModelBundle, views: np.ndarray, batch_size: int = 16) -> np.ndarray:
    """Encodes and decodes real images with the bundle's tokenizer: the best that any model on it could draw.

    Args:
        bundle: The model, on the device to use.
        views: uint8 (n, C, S, S) canonical views.
        batch_size: Images at once.

    Returns:
        uint8, of the same shape.

    Raises:
        EvaluationError: If the views are not the bundle's.
    """
    expected = (bundle.spec.channels, bundle.spec.size_px, bundle.spec.size_px)
    if views.dtype != np.uint8 or views.shape[1:] != expected or not len(views):
        raise EvaluationError(
            f"the real images have shape {views.shape} and type {views.dtype}, the bundle makes uint8 (n, "
            f"{', '.join(map(str, expected))}): ingest the studies at its size"
        )
    tokenizer, device = bundle.image_tokenizer, bundle.model.device
    parts = []
    for start in range(0, len(views), batch_size):
        batch = torch.from_numpy(from_uint8(views[start : start + batch_size])).to(device)
        parts.append(to_uint8(tokenizer.decode(tokenizer.encode(batch)).float().cpu().numpy()))
    return np.concatenate(parts)


def _backend_of(out: Path) -> str:
    """A drawing is finished by the decoder that began it."""
    return read_drawing_info(out).backend if (out / DESCRIPTION_FILE).exists() else "auto"


def _describe(
    bundle: ModelBundle, backend: str, rules: SamplingRules, seed: int, prompts: Sequence[str]
) -> DrawingInfo:
    return DrawingInfo(
        licence_class=bundle.info.licence_class,
        bundle_sha256=bundle.fingerprint,
        dtype=str(bundle.model.dtype).removeprefix("torch."),
        device=bundle.model.device.type,
        backend=backend,
        rules=rules,
        seed=seed,
        num_images=len(prompts),
        prompts_sha256=sha256_json(list(prompts)),
        spec=bundle.spec,
    )


def _claim(out: Path, info: DrawingInfo) -> None:
    """Writes `drawing.json`, or makes sure that the one that is there describes this drawing."""
    if not (out / DESCRIPTION_FILE).exists():
        if shard_paths(out):
            raise EvaluationError(f"{out}: holds shards of something else: choose an empty folder")
        write_description(out / DESCRIPTION_FILE, info)
        return
    there = read_drawing_info(out)
    other = [key for key in _TOLD_APART if getattr(there, key) != getattr(info, key)]
    if other:
        raise EvaluationError(
            f"{out}: holds images that were drawn with another {', '.join(other)}; nothing was overwritten: choose "
            "another folder, or delete this one"
        )
    clear_leftovers(out)


def _draw_batch(
    bundle: ModelBundle,
    prompts: Sequence[str],
    rules: SamplingRules,
    seeds: Sequence[int],
    backend: DecodingBackend,
) -> list[np.ndarray]:
    """Draws one batch; pictures are decoded one at a time, so that no batch changes a pixel."""
    layout = bundle.layout
    ids = [layout.prompt_ids(layout.text_ids(bundle.text_tokenizer, text)) for text in prompts]
    codes = decode_image_tokens(bundle.model, layout, ids, rules, seeds, backend=backend).to(bundle.model.device)
    return [to_uint8(bundle.image_tokenizer.decode(image[None])[0].float().cpu().numpy()) for image in codes]
