"""What a study is: one training, several arms that differ by their alignment alone, several seeds, one held-out set.

The file is committed before the study runs. Everything that could be chosen with an eye on the result stands in it:
endpoint, stratum, number of images, seeds, how guidance is chosen, which arms are controls.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from arra_med.config import StrictModel
from arra_med.corpus.feature_shards import Kind
from arra_med.corpus.folds import PatientFold
from arra_med.evaluate.frechet import MAX_PROJECTED_DIMS
from arra_med.generate.sampling import SamplingRules
from arra_med.records.study import AgeGroup, Split, StudyRecord
from arra_med.training.alignment import AlignmentConfig
from arra_med.training.settings import TrainConfig

Role = Literal["baseline", "treatment", "control"]

_ARM_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SHARED = {"name", "corpus", "image_tokenizer", "expected", "alignment", "sources", "fold", "seed"}


def _without_features(values: Any) -> Any:
    """The runner names the teacher's file; any name stands for it until then."""
    return {"teacher_features": "teacher.parquet", **values} if isinstance(values, dict) else values


def _without_dropped(arms: Any) -> Any:
    return {name: arm for name, arm in arms.items() if arm is not None} if isinstance(arms, dict) else arms


class StudyArm(StrictModel):
    """One way of training.

    Attributes:
        role: The one baseline, a treatment, or a control that any auxiliary loss would equal.
        control_of: The treatment that a control belongs to, such as the one with the same teacher; absent: every treatment.
        teacher: What `arra-med features --teacher` takes; absent for the baseline. `permuted:` and `random:` are
            controls.
        alignment: The block of `arra-med train` without its teacher's file.
        training: Settings of the training that this arm changes besides, such as `{steps: 800}`: for exploratory arms.
    """

    role: Role
    control_of: str | None = None
    teacher: str | None = None
    alignment: Annotated[AlignmentConfig, BeforeValidator(_without_features)] | None = None
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _teacher_and_alignment_go_together(self) -> "StudyArm":
        if (self.teacher is None) != (self.alignment is None):
            raise ValueError("an arm has both a teacher and an alignment, or neither")
        if self.role == "baseline" and (self.teacher is not None or self.training):
            raise ValueError("the baseline has no teacher and changes nothing")
        return self


class HeldOutImages(StrictModel):
    """Which held-out images are compared, all of one stratum.

    Attributes:
        source: Of this source, so that no classifier can read the scanner in place of the disease.
        age_group: Of this age group; `null` takes all.
        max_images: At most so many of each split, drawn by the image ids; `null` takes all.
    """

    source: str
    age_group: AgeGroup | None = None
    max_images: int | None = Field(default=None, gt=0)

    def holds(self, record: StudyRecord) -> bool:
        """Whether a record is of the stratum."""
        return record.source == self.source and self.age_group in (None, record.age_group)


class GuidanceSweep(StrictModel):
    """How each arm's guidance is chosen: on the validation images of its first seed, by the primary distance.

    Attributes:
        scales: Tried ones, the same for every arm.
        seed: Of the first image; the test has other seeds.
    """

    scales: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    seed: int = 500_000


class StudyConfig(StrictModel):
    """Settings of `arra-med compare`.

    Attributes:
        name: Of the study.
        question: What it answers, in a sentence.
        start: What every arm starts from, in words for the tables.
        exploratory: Whether its settings are tried out, or were chosen after looking at results: it is judged on the
            validation images, and tables say so.
        studies: Folder of the study set with real images.
        training: The training of every arm and seed, without alignment; its `fold` keeps the judge's patients out.
        arms: By name; exactly one baseline. `null` drops an arm of the `base:` file.
        seeds: Training seeds (one of an exploratory study has no interval): of order, wordings, dropout, new rows and projectors.
        held_out: The stratum.
        judge: Encoder of the primary distance, near no training.
        other_judges: Encoders of secondary distances; one that cannot be loaded is named and left out.
        num_dims: Dimensions of the primary distance's projection, fitted to the training's real images.
        judge_fold: Train patients whom no generator or teacher saw: the classifiers that read findings learn from them.
        guidance: How guidance is chosen.
        rules: The other sampling rules.
        image_seed: Of the first held-out image; image i of every arm and seed has `image_seed + i`.
        findings: Harmonised names to read; empty takes every one that is frequent enough.
        prompt_findings: Findings whose wordings are drawn against a normal one at the same seeds; empty draws none.
        sites: Files that `arra-med moments export` wrote of real held-out images elsewhere, with this judge: every arm's
            drawings are compared with their merged moments, too.
        site_projection: The training moments that the sites projected with, where they did.
        utility: Whether to draw images for the judge's patients and train classifiers on them.
        privacy: Whether to look for copies of training images and for membership.
        views: Views of each training study in corpus and features.
    """

    name: str
    question: str
    start: str
    exploratory: bool = False
    studies: Path
    training: TrainConfig
    arms: Annotated[dict[str, StudyArm], BeforeValidator(_without_dropped)]
    seeds: tuple[int, ...] = Field(min_length=1)
    held_out: HeldOutImages
    judge: str = "efficientnet_lite2"
    other_judges: tuple[str, ...] = ()
    num_dims: int = Field(default=32, gt=0, le=MAX_PROJECTED_DIMS)
    judge_fold: PatientFold
    guidance: GuidanceSweep = GuidanceSweep()
    rules: SamplingRules = SamplingRules()
    image_seed: int = 0
    findings: tuple[str, ...] = ()
    prompt_findings: tuple[str, ...] = ()
    sites: tuple[Path, ...] = ()
    site_projection: Path | None = None
    utility: bool = True
    privacy: bool = True
    views: int = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "StudyConfig":
        if sum(arm.role == "baseline" for arm in self.arms.values()) != 1:
            raise ValueError("a study has exactly one arm of role baseline")
        if self.training.alignment:
            raise ValueError("training.alignment belongs to the arms: leave it out of the training")
        if len(self.seeds) == 1 and not self.exploratory:
            raise ValueError("one seed has no interval: give at least two, better five, or set exploratory: true")
        treatments = self.of_role("treatment")
        for name, arm in self.arms.items():
            if arm.control_of is not None and (arm.role != "control" or arm.control_of not in treatments):
                raise ValueError(
                    f"arm {name}: control_of names a treatment ({', '.join(treatments)}), for controls alone"
                )
            if not _ARM_NAME.fullmatch(name):
                raise ValueError(f"arm {name!r} becomes a folder: name it with letters, digits, '-' and '_'")
            if shared := sorted(_SHARED & arm.training.keys()):
                raise ValueError(
                    f"arm {name} changes {', '.join(shared)} of the training, which all arms share: leave it out"
                )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice in seeds: each pair of trainings counts once")
        ours, theirs = self.training.fold, self.judge_fold
        if ours.count != theirs.count or ours.index == theirs.index:
            raise ValueError(
                "judge_fold must be another fold of the same count as training.fold, or its patients were trained on"
            )
        for arm_name in self.arms:  # an arm that cannot be trained is an error now, not after the other trainings
            self.train_config(StudyRun(arm_name, self.seeds[0]), Path("teacher.parquet"))
        return self

    @property
    def baseline(self) -> str:
        """Name of the baseline."""
        return self.of_role("baseline")[0]

    def of_role(self, role: Role) -> list[str]:
        """Names of the arms of a role, in order."""
        return [name for name, arm in self.arms.items() if arm.role == role]

    @property
    def judged_split(self) -> Split:
        """What the arms are judged on: an exploratory study leaves the test images to those that were registered."""
        return "validation" if self.exploratory else "test"

    def controls_of(self, treatment: str) -> list[str]:
        """Names of a treatment's controls, in order."""
        return [name for name in self.of_role("control") if self.arms[name].control_of in (None, treatment)]

    def runs(self) -> Iterator["StudyRun"]:
        """All trainings, every arm of one seed before the next seed."""
        for seed in self.seeds:
            for arm in self.arms:
                yield StudyRun(arm, seed)

    def train_config(self, run: "StudyRun", teacher_features: Path | None) -> TrainConfig:
        """Returns the settings of one training; two arms of one seed differ by what the arm says alone.

        Args:
            run: Which arm and seed.
            teacher_features: The file of the arm's teacher.

        Raises:
            pydantic.ValidationError: If the arm changes a setting to something impossible.
        """
        arm = self.arms[run.arm]
        values = self.training.model_dump()
        values.update(arm.training, name=f"{self.name}-{run.arm}-{run.seed}", seed=run.seed)
        if "seed" in values["start"]:
            values["start"]["seed"] = run.seed
        if arm.alignment is not None:
            block = {**arm.alignment.model_dump(), "teacher_features": teacher_features, "seed": run.seed}
            values["alignment"] = [block]
        return TrainConfig.model_validate(values)

    def teacher_kinds(self, teacher: str) -> tuple[Kind, ...]:
        """Returns the features of a teacher that some arm needs."""
        blocks = [arm.alignment for arm in self.arms.values() if arm.teacher == teacher and arm.alignment]
        kinds = {kind for block in blocks for kind in block.feature.split("+")}
        return tuple(sorted(kinds))  # type: ignore[arg-type]


class StudyRun(NamedTuple):
    """One training of a study.

    Attributes:
        arm: Name of the arm.
        seed: Training seed.
    """

    arm: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Where the training lies."""
        return out / "arms" / self.arm / f"seed_{self.seed}"
