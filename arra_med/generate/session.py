"""From a report to pictures: prompt, decoding in bounded batches, partial pictures while the tokens arrive."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arra_med.errors import GenerationError, is_out_of_memory
from arra_med.generate.checking import CheckedImage
from arra_med.generate.decoding import decode_image_tokens, free_memory, open_backend, stream_image_tokens
from arra_med.generate.previews import MID_GREY, SHARE, PreviewCost, Previews, partial_pictures, uint8_pictures
from arra_med.generate.prompting import PromptReader, keyed_hash
from arra_med.generate.request import GenerationRequest, request_from_settings
from arra_med.generate.sampling import SamplingRules
from arra_med.records.report import Prompt
from arra_med.runs import versions

if TYPE_CHECKING:
    from arra_med.models.bundle import ModelBundle

__all__ = [
    "GenerationRequest",
    "GenerationResult",
    "GenerationUpdate",
    "ReportToImage",
    "SamplingRules",
    "request_from_settings",
]

SYNTHETIC_NOTICE = "Synthetic image made by a machine-learning model. Research use only, not for clinical use."
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC NewsCode of media made by a trained model, the machine-readable mark that is in wide use."""

_MEMORY_TOO_SMALL = (
    "the memory is full with one image at a time: close other programs, or choose another device or a smaller bundle"
)


@dataclass(frozen=True)
class GenerationResult:
    """Finished images.

    Attributes:
        images: uint8 (n, H, W) grayscale or (n, H, W, 3) RGB.
        codes: int64 (n, h, w).
        prompt: What the model read, and what the user should be told.
        request: What was asked for.
        provenance: What made the images, common to all of them; holds no report text.
        seeds: Seed of each image; empty: image i has `request.seed + i`.
        checked: What a check did for each image; empty if none was asked.
        check: What made up that check, and its counts.
        details: What else the record of each image tells; empty: nothing.
    """

    images: np.ndarray
    codes: torch.Tensor
    prompt: Prompt
    request: GenerationRequest
    provenance: dict[str, Any]
    seeds: tuple[int, ...] = ()
    checked: tuple[CheckedImage, ...] = ()
    check: dict[str, Any] = field(default_factory=dict)
    details: tuple[dict[str, Any], ...] = ()

    def seed(self, index: int) -> int:
        """Returns the seed of an image."""
        return self.seeds[index] if self.seeds else self.request.seed + index

    def asked_seed(self, index: int) -> int:
        """Returns the seed that was asked for, which a check may have replaced."""
        return self.checked[index].tries[0].seed if self.checked else self.seed(index)

    def only(self, index: int) -> "GenerationResult":
        """Returns one image, with all that is told of it."""
        one = slice(index, index + 1)
        return dataclasses.replace(
            self,
            images=self.images[one],
            codes=self.codes[one],
            seeds=(self.seed(index),),
            checked=self.checked[one],
            details=self.details[one],
        )


@dataclass(frozen=True)
class GenerationUpdate:
    """State of a request in progress.

    Attributes:
        progress: Share of the image tokens made, 0 to 1.
        images: Like the result's; what is not there yet is mid-grey.
        prompt: What the model reads.
        done: Whether `result` is there.
        result: The finished images, in the last update.
        finished: Those of the images that no earlier update handed out, in each update that finishes any.
    """

    progress: float
    images: np.ndarray
    prompt: Prompt
    done: bool = False
    result: GenerationResult | None = None
    finished: GenerationResult | None = None


class ReportToImage:
    """Makes images from reports with one opened bundle.

    Args:
        bundle: The model.
        max_batch_images: Images decoded together; bounds the memory, changes no image.
        backend: Decoder; see `open_backend`.

    Attributes:
        reader: Turns requests into prompts, and prompts into tokens.

    Raises:
        GenerationError: If `max_batch_images` is not positive, or the backend cannot be used here.
    """

    def __init__(self, bundle: "ModelBundle", max_batch_images: int = 8, backend: str = "auto") -> None:
        if max_batch_images < 1:
            raise GenerationError(f"max_batch_images is {max_batch_images}, it must be at least 1")
        self.bundle = bundle
        self.reader = PromptReader(bundle.info, bundle.text_tokenizer)
        self._max_batch_images = max_batch_images
        self.backend = open_backend(backend, bundle.model, bundle.layout)
        self._preview_cost = PreviewCost()
        self._versions = versions()

    def prompt(self, request: GenerationRequest) -> Prompt:
        """Returns what the model will read; its notices hold every caution for the user.

        Raises:
            GenerationError: If the bundle makes images of another modality.
            ReportError: If the report holds nothing that can become a prompt.
        """
        return self.reader.prompt(request)

    def generate(self, request: GenerationRequest) -> GenerationResult:
        """Makes the images without partial pictures.

        Raises:
            GenerationError: If the request does not fit the bundle, or the model is damaged.
            ReportError: If the report holds nothing that can become a prompt.
        """
        for update in self.stream(request, partial_images=False):
            if update.result is not None:
                return update.result
        raise AssertionError("a stream ends with a result")

    def stream(
        self,
        request: GenerationRequest,
        partial_images: bool = True,
        seeds: Sequence[int] = (),
        kept: torch.Tensor | None = None,
    ) -> Iterator[GenerationUpdate]:
        """Makes the images, with an update at the start, after each grid row and at the end.

        Closing the iterator ends the work. Where the memory is full, the batch is drawn again in halves; a notice of the
        updates' prompt says so.

        Args:
            request: What to make.
            partial_images: Show what is there already. Partial pictures are made beside the drawing, and skipped where
                they would take more than a seventh of the time; so one is of a row that was finished a little before.
            seeds: Makes one image of each of these seeds instead of the request's.
            kept: int64 (h, w): codes that stay in every image, `decoding.FREE` where one is drawn; none: all are drawn.

        Raises:
            GenerationError: If the request does not fit the bundle, the model is damaged, or the memory is too small for
                one image.
            ReportError: If the report holds nothing that can become a prompt.
        """
        prompt = self.prompt(request)
        prompt_ids = self.reader.token_ids(prompt)
        seeds = tuple(seeds) or tuple(request.seed + index for index in range(request.num_images))
        size_px, channels = self.bundle.spec.size_px, self.bundle.spec.channels
        shape = (len(seeds), size_px, size_px) + ((channels,) if channels > 1 else ())
        images = np.full(shape, MID_GREY, dtype=np.uint8)
        batches: list[torch.Tensor] = []
        provenance = self._provenance(request, prompt)
        with Previews(self._partial_pictures, self._preview_cost, SHARE if partial_images else 0.0) as previews:
            yield GenerationUpdate(0.0, images.copy(), prompt)
            first, batch_size, progress = 0, self._max_batch_images, 0.0
            while first < len(seeds):
                batch_seeds = seeds[first : first + batch_size]
                try:
                    with contextlib.closing(self._rows(request, prompt_ids, batch_seeds, kept)) as rows:
                        for share, codes in self._shown(rows, first, images, previews):
                            finished = None
                            if codes is not None:
                                batches.append(codes)
                                pictures = images[first : first + len(codes)].copy()
                                finished = GenerationResult(pictures, codes, prompt, request, provenance, batch_seeds)
                            progress = max(progress, (first + share * len(batch_seeds)) / len(seeds))
                            yield GenerationUpdate(progress, images.copy(), prompt, finished=finished)
                    first += len(batch_seeds)
                    continue
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    if len(batch_seeds) == 1:
                        raise GenerationError(_MEMORY_TOO_SMALL) from error
                previews.drop()
                free_memory()
                batch_size = len(batch_seeds) // 2  # the same seeds, so the same images
                notice = (
                    f"The memory is full: going on with {batch_size} images at a time instead of {len(batch_seeds)}."
                )
                prompt = dataclasses.replace(prompt, notices=(*prompt.notices, notice))
        result = GenerationResult(images, torch.cat(batches), prompt, request, provenance, seeds)
        yield GenerationUpdate(1.0, images.copy(), prompt, done=True, result=result)

    def _shown(
        self, rows: Iterator[torch.Tensor], first: int, images: np.ndarray, previews: Previews
    ) -> Iterator[tuple[float, torch.Tensor | None]]:
        """Puts the pictures of a batch, the partial ones too, into `images`, from the number `first` on.

        Yields:
            After each row the share that is drawn, and at the end the codes, int64 (B, h, w).
        """
        num_rows = self.bundle.layout.grid[0]
        for row, codes in enumerate(rows, start=1):
            if row < num_rows:
                previews.offer(codes, first)
                previews.show(images)
                yield row / num_rows, None
            else:
                previews.drop()
                images[first : first + len(codes)] = self._pictures(codes)
                yield 1.0, codes

    def _rows(
        self, request: GenerationRequest, prompt_ids: list[int], seeds: Sequence[int], kept: torch.Tensor | None
    ) -> Generator[torch.Tensor, None, None]:
        """Starts one batch of a request; its rows as `stream_image_tokens` yields them."""
        prompts = [prompt_ids] * len(seeds)
        kept_codes = None if kept is None else kept.expand(len(seeds), *kept.shape)
        model, layout = self.bundle.model, self.bundle.layout
        return stream_image_tokens(model, layout, prompts, request.rules, seeds, self.backend, kept_codes)

    def draw_codes(
        self, requests: Sequence[GenerationRequest], should_stop: Callable[[], bool] | None = None
    ) -> torch.Tensor:
        """Draws the first image of each request as codes, all in one batch.

        Args:
            requests: At least one; all with the same sampling rules.
            should_stop: Asked after each grid row but the last.

        Returns:
            int64 (n, h, w) on the CPU; what `finish` makes pictures of.

        Raises:
            GenerationError: If the rules differ, a request does not fit the bundle, or the model is damaged.
            GenerationStopped: If `should_stop` returned true.
            ReportError: If a report holds nothing that can become a prompt.
        """
        rules = requests[0].rules
        if any(request.rules != rules for request in requests):
            raise GenerationError("the requests of a batch differ in their sampling rules: draw them one after another")
        prompts = [self.reader.token_ids(self.prompt(request)) for request in requests]
        seeds = [request.seed for request in requests]
        model, layout = self.bundle.model, self.bundle.layout
        return decode_image_tokens(model, layout, prompts, rules, seeds, should_stop=should_stop, backend=self.backend)

    def finish(self, request: GenerationRequest, codes: torch.Tensor) -> GenerationResult:
        """Makes the pictures of a request's codes (n, h, w); may run in another thread than the model."""
        prompt = self.prompt(request)
        return GenerationResult(self._pictures(codes), codes, prompt, request, self._provenance(request, prompt))

    def _decode(self, codes: torch.Tensor) -> np.ndarray:
        """Codes (B, h, w) -> float32 (B, H, W, C) in [0, 1]; one image at a time, so that no batch changes a pixel."""
        device = self.bundle.model.device
        decoded = [self.bundle.image_tokenizer.decode(image[None].to(device))[0] for image in codes]
        return torch.stack(decoded).permute(0, 2, 3, 1).float().cpu().numpy()

    def _pictures(self, codes: torch.Tensor) -> np.ndarray:
        """Codes of whole images (B, h, w) -> uint8 (B, H, W) or (B, H, W, 3)."""
        return uint8_pictures(self._decode(codes))

    def _partial_pictures(self, codes: torch.Tensor) -> np.ndarray:
        """Codes so far (B, r, w) -> uint8 (B, H, W) or (B, H, W, 3), the missing part mid-grey."""
        return partial_pictures(self._decode, codes, self.bundle.layout.grid[0])

    def _provenance(self, request: GenerationRequest, prompt: Prompt) -> dict[str, Any]:
        info = self.bundle.info
        return {
            "notice": SYNTHETIC_NOTICE,
            "synthetic": True,
            "digital_source_type": DIGITAL_SOURCE_TYPE,
            "bundle": {
                "name": info.name,
                "variant": info.variant,
                "sha256": self.bundle.fingerprint,
                "licence_class": info.licence_class,
                "sources": list(info.sources),
            },
            "modality": request.modality,
            "view": prompt.view,
            "age_group": prompt.age_group,
            "laterality": prompt.laterality,
            "report_keyed_hash": keyed_hash(request.report),
            "prompt_keyed_hash": keyed_hash(prompt.text),
            "report_section": prompt.section,
            "rules": request.rules.model_dump(mode="json"),
            "device": str(self.bundle.model.device.type),
            "backend": self.backend.name,
            "dtype": str(self.bundle.model.dtype).removeprefix("torch."),
            "versions": self._versions,
        }
