"""Settings of `arra-med evaluate fidelity`, and the published protocol that a configuration may follow."""

from pathlib import Path

from pydantic import Field, model_validator

from arra_med.config import Device, StrictModel
from arra_med.encoders.base import Feature
from arra_med.evaluate.distances import PRECISION_RECALL_NEIGHBOURS
from arra_med.evaluate.frechet import MAX_PROJECTED_DIMS
from arra_med.generate.sampling import SamplingRules
from arra_med.records.study import Split


class DiversitySettings(StrictModel):
    """How many images of how many prompts show the diversity; no prompts: it is not measured.

    Attributes:
        prompts: Held-out studies with different reports.
        images: Images of each, at least 2.
    """

    prompts: int = Field(8, ge=0)
    images: int = Field(4, ge=2)


class Protocol(StrictModel):
    """A published protocol that a configuration follows, and what of it cannot be followed.

    Attributes:
        name: Of the protocol.
        source: Where it is published.
        published: What it says, point by point.
        not_measured: What this run leaves out, and why.
    """

    name: str
    source: str
    published: tuple[str, ...]
    not_measured: dict[str, str]


class FidelityConfig(StrictModel):
    """Settings of `arra-med evaluate fidelity`.

    Attributes:
        studies: Study set with the real images and the reports.
        bundle: The model: a folder, or the name of a bundled one. Beside `images` it says what drew them.
        images: Folder of already generated images in place of drawing.
        split: `validation` for choices, `test` for what is reported once.
        sources: Of the real images; all of them if empty. One, so that a judge does not compare scanners.
        num_images: Held-out reports; all of them by default.
        training_images: Real training images that a judge's projection is fitted to.
        judges: Names or folders of encoders; see `arra_med.encoders.config.parse_encoder`.
        feature: What of a judge; by default its own global embedding, where it has one, else the mean of its patches.
        num_dims: Of the projection; at most a quarter of the images.
        precision_recall_neighbours: k of precision and recall; density and coverage have k = 5.
        rules: Guidance and sampling.
        seed: Of image 0; image i has `seed + i`.
        diversity: What diversity is measured on.
        pictures: Sample pairs in the report.
        batch_size: Images drawn together.
        device: Where to compute.
        protocol: What the configuration follows.
    """

    studies: Path
    bundle: str | None = None
    images: Path | None = None
    split: Split = "validation"
    sources: tuple[str, ...] = ()
    num_images: int | None = Field(None, ge=1)
    training_images: int = Field(800, ge=2)
    judges: tuple[str, ...] = Field(("efficientnet_lite2",), min_length=1)
    feature: Feature | None = None
    num_dims: int = Field(MAX_PROJECTED_DIMS, ge=1, le=MAX_PROJECTED_DIMS)
    precision_recall_neighbours: int = Field(PRECISION_RECALL_NEIGHBOURS, ge=1)
    rules: SamplingRules = SamplingRules()
    seed: int = Field(0, ge=0)
    diversity: DiversitySettings = DiversitySettings()
    pictures: int = Field(8, ge=0)
    batch_size: int = Field(16, ge=1)
    device: Device = "auto"
    protocol: Protocol | None = None

    @model_validator(mode="after")
    def _has_images(self) -> "FidelityConfig":
        if self.bundle is None and self.images is None:
            raise ValueError("give bundle, images, or both")
        return self
