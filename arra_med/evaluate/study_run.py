"""Runs a study: teacher features, trainings, guidance sweeps on validation, then the test images, in this order.

Every task is done once and resumes where it was stopped. The same command, started several times on one folder, shares
the tasks out by locks: nothing is done twice, and no test image is drawn before all trainings and sweeps are over.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from arra_med.config import StrictModel, load_config, resolve_device
from arra_med.corpus.features import PERMUTED_PREFIX, extract_features
from arra_med.corpus.study_set import StudySet
from arra_med.corpus.tokenize import Corpus
from arra_med.encoders import load_encoder
from arra_med.encoders.base import FrozenEncoder
from arra_med.encoders.config import RANDOM_PREFIX
from arra_med.encoders.hub import display_name
from arra_med.encoders.provenance import Exposure, encoder_exposure
from arra_med.errors import EncoderError, EvaluationError
from arra_med.evaluate.drawing import draw_images, read_drawing
from arra_med.evaluate.features import features_file, kept_judged_features
from arra_med.evaluate.frechet import FeatureProjection, projected_frechet_distance
from arra_med.evaluate.held_out import RealImages
from arra_med.evaluate.shared_tasks import Task, share_tasks
from arra_med.evaluate.study_folder import LOCKS, claim_folder, require_claimed, settings_lock
from arra_med.evaluate.study_guards import guard_once, require_same_corpus, require_untouched, require_wordings
from arra_med.evaluate.study_images import held_out_stratum, judge_patients, training_reals
from arra_med.evaluate.study_settings import StudyConfig, StudyRun
from arra_med.generate.sampling import SamplingRules
from arra_med.models.bundle import ModelBundle
from arra_med.runs import sha256_json, write_json
from arra_med.training.run import train

GUIDANCE_FILE, RUN_FILE = "guidance.json", "run.json"
TEST, JUDGE_FOLD, TRAIN = "test", "judge_fold", "train"
_BATCH = 32


class GuidanceChoice(StrictModel):
    """What an arm's sweep found.

    Attributes:
        chosen: The scale of the smallest distance.
        distances: Primary distance on the validation images, by scale.
        num_images: Validation images.
    """

    chosen: float
    distances: dict[str, float]
    num_images: int


class Study:
    """A study in its folder.

    Args:
        config: The settings.
        out: The folder; it holds one study.
        say: Receives one line for each thing that happens.
        later_judges: Encoders of secondary rows that the settings do not name; their rows say that they were not registered.

    Raises:
        EvaluationError: If another study lies in the folder, or corpus and study set do not fit.
        OverlapError: If a judge or a held-out patient overlaps the training.
        EncoderError: If the judge or a teacher cannot be loaded.
    """

    def __init__(
        self, config: StudyConfig, out: Path, say: Callable[[str], None], later_judges: Sequence[str] = ()
    ) -> None:
        self.config, self.out, self.say = config, out, say
        claim_folder(config, out)
        self.studies = StudySet.open(config.studies)
        self.corpus = Corpus.open(config.training.corpus)
        require_same_corpus(self.studies, self.corpus, config)
        require_wordings(self.studies, config)
        self.judge = load_encoder(config.judge)
        self.other_judges: list[FrozenEncoder] = []
        self.later_judges: list[FrozenEncoder] = []
        self.judge_notes: list[str] = []
        self._exposures = [encoder_exposure(self.judge, config.judge)]
        self._load_other_judges()
        self._real: dict[str, RealImages] = {}
        self._teacher_exposures = self._learned_teachers()
        with settings_lock(out):  # nobody else's settings take the folder until it has begun
            require_claimed(config, out)
            self.guards = guard_once(
                out, self.studies, self.corpus, config, self.judge, self._exposures, self._teacher_exposures
            )
        for name in later_judges:
            self._add_later_judge(name)

    def run(self) -> None:
        """Does every task that is not done yet, and waits for those that other processes do."""
        self.share("teacher features", [self._features_task(name) for name in self._teachers()])
        self.share("trainings", [self._training_task(run) for run in self.config.runs()])
        self.share("guidance sweeps", [self._sweep_task(arm) for arm in self.config.arms])
        drawings = [self._drawing_task(run, TEST) for run in self.config.runs()]
        if self.config.utility:
            used = self.used_arms()
            drawings += [self._drawing_task(run, JUDGE_FOLD) for run in self.config.runs() if run.arm in used]
        self.share("drawings", drawings)

    def secondary_judges(self) -> list[FrozenEncoder]:
        """The judges of secondary rows that could be loaded."""
        return [*self.other_judges, *self.later_judges]

    def used_arms(self) -> list[str]:
        """The arms whose images someone would use: baseline and treatments."""
        return [self.config.baseline, *self.config.of_role("treatment")]

    def real(self, part: str) -> RealImages:
        """The real images of a part: those that a drawing's prompts come from, or some that trained; read once."""
        if part not in self._real:
            self._real[part] = self._read(part)
        return self._real[part]

    def _read(self, part: str) -> RealImages:
        if part == TRAIN:
            return training_reals(self.studies, self.config)
        if part == JUDGE_FOLD:
            return judge_patients(self.studies, self.config)
        return held_out_stratum(self.studies, self.config, self.config.judged_split if part == TEST else "validation")

    def real_features(self, encoder: FrozenEncoder, part: str, images: RealImages) -> np.ndarray:
        """Features (n, D) of real images, kept in the study's folder."""
        return kept_judged_features(encoder, images.views, features_file(self.out / "real" / part, encoder))

    def projection(self, encoder: FrozenEncoder) -> FeatureProjection:
        """The projection of the primary distance, fitted to real training images."""
        features = self.real_features(encoder, TRAIN, self.real(TRAIN))
        return FeatureProjection.fit(features, self.config.num_dims)

    def guidance(self, arm: str) -> GuidanceChoice:
        """What the arm's sweep found."""
        return load_config(self._guidance_file(arm), GuidanceChoice)

    def rules(self, arm: str) -> SamplingRules:
        """The sampling rules that the arm's sweep chose."""
        return self.config.rules.model_copy(update={"guidance_scale": self.guidance(arm).chosen})

    def bundle_folder(self, run: StudyRun) -> Path:
        """Where a training's bundle lies."""
        return run.folder(self.out) / "bundle"

    def drawing_folder(self, run: StudyRun, part: str) -> Path:
        """Where the images of a run lie."""
        return run.folder(self.out) / f"images_{part}"

    def drawn_features(self, encoder: FrozenEncoder, run: StudyRun, part: str = TEST) -> np.ndarray:
        """Features (n, D) of a run's drawn images, kept beside them."""
        images = self.drawn(run, part)
        return kept_judged_features(encoder, images, features_file(run.folder(self.out) / part, encoder))

    def drawn(self, run: StudyRun, part: str) -> np.ndarray:
        """Reads a run's images, uint8 (n, C, S, S); what was lost of them since is drawn again."""
        folder = self.drawing_folder(run, part)
        try:
            return read_drawing(folder)
        except EvaluationError:
            self.say(f"{folder}: is not whole any more; drawing what is missing")
            return self.draw(run, part)

    def draw(self, run: StudyRun, part: str) -> np.ndarray:
        """Draws a run's images, or reads them: uint8 (n, C, S, S)."""
        config = self.config
        # the images of the judge's patients have seeds that no test image has
        seed = config.image_seed + (0 if part == TEST else len(self.studies))
        bundle = ModelBundle.load(self.bundle_folder(run))
        folder = self.drawing_folder(run, part)
        records = self.real(part).records
        name = f"{run.arm} {run.seed} {part}"
        return draw_images(bundle, records, self.rules(run.arm), seed=seed, out=folder, batch_size=_BATCH, name=name)

    def _teachers(self) -> list[str]:
        return list(dict.fromkeys(arm.teacher for arm in self.config.arms.values() if arm.teacher is not None))

    def _load_other_judges(self) -> None:
        for name in self.config.other_judges:
            try:
                encoder = load_encoder(name)
            except EncoderError as error:
                self.say(str(error))
                self.judge_notes.append(f"{display_name(name)} could not be loaded and did not judge")
                continue
            self.other_judges.append(encoder)
            self._exposures.append(encoder_exposure(encoder, name))

    def _add_later_judge(self, name: str) -> None:
        encoder = load_encoder(name)
        exposure = encoder_exposure(encoder, name)
        self.judge_notes += require_untouched(self.studies, self.config, [exposure], self._teacher_exposures)
        encoder.name += ", not registered"
        self.later_judges.append(encoder)

    def _learned_teachers(self) -> list[Exposure]:
        """What the teachers have been near, but for random ones, which have seen nothing."""
        sources = dict.fromkeys(name.removeprefix(PERMUTED_PREFIX) for name in self._teachers())
        learned = [name for name in sources if not name.startswith(RANDOM_PREFIX)]
        return [encoder_exposure(load_encoder(name), name) for name in learned]

    def share(self, what: str, tasks: Sequence[Task]) -> None:
        """Does tasks together with other processes on this folder; see `share_tasks`."""
        share_tasks(what, tasks, self.out / LOCKS, self.say)

    def teacher_features_file(self, teacher: str) -> Path:
        """Where a teacher's features lie."""
        return self.out / "teachers" / f"{sha256_json(teacher)[:12]}.parquet"

    def _features_task(self, teacher: str) -> Task:
        def work() -> None:
            kinds = self.config.teacher_kinds(teacher)
            info = self.corpus.info
            training = self.config.training
            extract_features(
                self.config.studies,
                teacher,
                path,
                views=info.num_views,
                seed=info.seed,
                kinds=kinds,
                sources=training.sources,
                fold=training.fold,
            )

        path = self.teacher_features_file(teacher)
        return Task(f"teacher_{path.stem}", path, work)

    def _training_task(self, run: StudyRun) -> Task:
        folder = run.folder(self.out)

        def work() -> None:
            teacher = self.config.arms[run.arm].teacher
            began = time.monotonic()
            config = self.config.train_config(run, self.teacher_features_file(teacher) if teacher else None)
            train(config, folder)
            seconds = time.monotonic() - began
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            write_json(folder / RUN_FILE, {"seconds": seconds, "device": resolve_device(config.device)})

        return Task(f"train_{run.arm}_{run.seed}", folder / RUN_FILE, work)

    def _guidance_file(self, arm: str) -> Path:
        return self.out / "arms" / arm / GUIDANCE_FILE

    def _sweep_task(self, arm: str) -> Task:
        path = self._guidance_file(arm)

        def work() -> None:
            run = StudyRun(arm, self.config.seeds[0])
            images = self.real("validation")
            real, projection = self.real_features(self.judge, "validation", images), self.projection(self.judge)
            bundle = ModelBundle.load(self.bundle_folder(run))
            distances = {}
            for scale in self.config.guidance.scales:
                rules = self.config.rules.model_copy(update={"guidance_scale": scale})
                folder = path.parent / f"sweep_{scale:g}"
                seed, name = self.config.guidance.seed, f"{arm} guidance {scale:g}"
                drawn = draw_images(bundle, images.records, rules, seed=seed, out=folder, batch_size=_BATCH, name=name)
                features = kept_judged_features(self.judge, drawn, features_file(folder, self.judge))
                distances[f"{scale:g}"] = projected_frechet_distance(projection, real, features)
            chosen = float(min(distances, key=lambda scale: distances[scale]))
            choice = GuidanceChoice(chosen=chosen, distances=distances, num_images=len(images.records))
            write_json(path, choice.model_dump())

        return Task(f"sweep_{arm}", path, work)

    def _drawing_task(self, run: StudyRun, part: str) -> Task:
        def work() -> None:
            self.draw(run, part)
            self.drawn_features(self.judge, run, part)

        done = features_file(run.folder(self.out) / part, self.judge)
        return Task(f"draw_{part}_{run.arm}_{run.seed}", done, work)
