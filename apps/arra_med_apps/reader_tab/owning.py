"""What a study's owner does: plan, set up, see the results, delete a reader."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from arra_med.errors import EvaluationError
from arra_med.evaluate.reader_arms import PreparedArm, arm_of_files, arm_of_folder, drawn_arms
from arra_med.evaluate.reader_making import StudyPlan, make_study
from arra_med.evaluate.reader_sample_size import cases_for_accuracy, cases_for_preference
from arra_med.evaluate.reader_store import ReaderStudy
from arra_med.evaluate.reader_study import Code, Design, study_path
from arra_med.evaluate.reader_summary import SUMMARY_NOTICE, answers_csv, reader_summary, summary_json
from arra_med.evaluate.reader_words import summary_tables
from arra_med.generate.prompt_table import PromptRow, read_prompt_table
from arra_med.generate.session import ReportToImage
from arra_med.imaging.view import Modality
from arra_med_apps import words as page_words
from arra_med_apps.choices import Shelf
from arra_med_apps.following import follow
from arra_med_apps.generate_tab.history import Run
from arra_med_apps.generate_tab.presenting import note_panel, problem_panel
from arra_med_apps.reader_tab import presenting, words
from arra_med_apps.reader_tab.layout import Layout
from arra_med_apps.reader_tab.session_arms import session_arms
from arra_med_apps.reader_tab.telling import Updates, sentence_of, told
from arra_med_apps.service.run import ModelRun


class Owning:
    """Handlers of the parts "Set up" and "Results"; each returns or yields updates by component."""

    def __init__(self, page: Layout, shelf: Shelf) -> None:
        self.page = page
        self.shelf = shelf

    def switch_design(self, design: Design) -> Updates:
        """Shows the boxes that a design needs."""
        page = self.page
        return {
            page.question_text: gr.Textbox(visible=design == "preference"),
            page.items: gr.Textbox(visible=design == "likert"),
            **{row: gr.Column(visible=arm in words.ARMS_OF[design]) for arm, row in page.arm_rows.items()},
        }

    def switch_modality(self, modality: Modality) -> Updates:
        """Offers the models that draw such images."""
        offered = [(words.NO_MODEL, ""), *((c.label, c.name) for c in self.shelf.of_modality(modality))]
        return {box: gr.Dropdown(choices=offered, value="") for box in self.page.models.values()}

    def offer_folders(self, *, local: bool) -> Updates:
        """Shows the boxes for folders where they may be used."""
        return {box: gr.Textbox(visible=local) for box in self.page.folders.values()}

    def make(self, history: Sequence[Run], *, local: bool, **values: Any) -> Iterator[Updates]:
        """Yields progress, then the codes of the new study. An upload is gone when the study is made.

        Args:
            history: Runs of the generate tab in this session.
            local: Whether folders of this computer may be named.
            values: Of `Layout.plan_inputs`.
        """
        page = self.page
        busy = {page.make: gr.Button(interactive=False), page.stop: gr.Button(interactive=True)}
        yield {**busy, page.make_notice: "", page.made: presenting.working_panel(words.PREPARING, 0, 0)}
        try:
            yield from self._make(history, local, values)
        except Exception as error:  # noqa: BLE001 - the app's edge: a user never reads a traceback
            yield {page.make_notice: problem_panel(sentence_of(error)), page.made: "", **self.finished()}

    def finished(self) -> Updates:
        """Frees the buttons."""
        return {self.page.make: gr.Button(interactive=True), self.page.stop: gr.Button(interactive=False)}

    def stop(self) -> Updates:
        """Tells that the making was stopped; Gradio cancels it."""
        return {**self.finished(), self.page.make_notice: note_panel(words.STOPPED), self.page.made: ""}

    @told("planned")
    def sample_size(self, preferred: float, power: float, accuracy: float, half_width: float) -> Updates:
        """Works out how many images are needed, for either kind of study."""
        if None in (preferred, power, accuracy, half_width):
            raise EvaluationError("a number is missing: fill in all four boxes")
        plans = (
            cases_for_preference(preferred / 100, power=power / 100),
            cases_for_accuracy(accuracy / 100, half_width / 100),
        )
        lines = "".join(f"<li>{plan.sentence}</li>" for plan in plans)
        return {self.page.planned: f'<ul class="am-planned">{lines}</ul>'}

    @told("results_notice")
    def results(self, text: str, owner_code: str) -> Updates:
        """Opens the blinding for the owner."""
        return {self.page.results_notice: "", self.page.results: _results(_owned(text, owner_code))}

    @told("results_notice")
    def forget(self, text: str, owner_code: str, number: int | None) -> Updates:
        """Deletes a reader."""
        study = _owned(text, owner_code)
        study.forget(int(number or 0))
        return {self.page.results_notice: note_panel(words.DELETED), self.page.results: _results(study)}

    def _make(self, history: Sequence[Run], local: bool, values: dict[str, Any]) -> Iterator[Updates]:
        page, design = self.page, values["design"]
        if design not in get_args(Design) or values["modality"] not in self.shelf.modalities:
            raise EvaluationError("this design or kind of image is not offered here: choose one of the list")
        plan = _plan(values)
        arms = self._given(plan, local, values)
        num_left_out = 0
        if values["use_session"]:
            of_session, num_left_out = session_arms(history, plan.modality)
            arms += of_session
        for panel, drawn in self._drawn(plan, values):
            arms += drawn
            yield {page.made: panel}
        study, owner_code = make_study(plan, arms)
        for file in _uploads(values):
            Path(file).unlink(missing_ok=True)
        covered = sum(arm.num_covered for arm in arms)
        lines = [f"{len(study.cases)} cases of {len(arms)} arms, {study.settings.size_px} px"]
        lines += [f"Lines of letters were covered in {covered} images."] if covered else []
        if num_left_out:
            lines.append(words.SESSION_LEFT_OUT.format(runs=page_words.several(num_left_out, "run")))
        yield {
            page.made: presenting.made_panel(study.code, owner_code, lines),
            page.results_code: study.code,
            **self.finished(),
        }

    def _given(self, plan: StudyPlan, local: bool, values: dict[str, Any]) -> list[PreparedArm]:
        arms = []
        paired, size = plan.design == "preference", int(values["size_px"] or 0) or None
        for arm in words.ARMS_OF[plan.design]:
            files, folder = values[f"files_{arm}"] or [], (values[f"folder_{arm}"] or "").strip()
            if folder and not local:
                raise EvaluationError(words.NOT_LOCAL)
            if folder:
                arms.append(arm_of_folder(arm, Path(folder), plan.modality, size, paired=paired))
            elif files:
                paths = sorted((Path(file) for file in files), key=lambda path: path.name)
                arms.append(arm_of_files(arm, paths, plan.modality, size, paired=paired))
        return arms

    def _drawn(self, plan: StudyPlan, values: dict[str, Any]) -> Iterator[tuple[str, list[PreparedArm]]]:
        """Yields how far the drawing is, and at the end the arms that were drawn."""
        if not values["prompts"]:
            return
        models = {arm: values[f"model_{arm}"] for arm in words.DRAWN_ARMS if values[f"model_{arm}"]}
        if not models:
            raise EvaluationError(words.NO_TABLE)
        rows = read_prompt_table(Path(values["prompts"]), modality=plan.modality, seed=plan.seed or 0)
        total = len(models) * sum(row.request.num_images for row in rows)
        if total > words.MAX_DRAWN:
            raise EvaluationError(words.TOO_MANY)
        with self.shelf.run(values.get("user", ""), total) as run:
            yield presenting.working_panel(page_words.LOADING, 0, total), []
            sessions = {arm: self.shelf.open(name) for arm, name in models.items()}
            arms: list[PreparedArm] = []
            with contextlib.closing(follow(functools.partial(_draw, run, sessions, rows, arms))) as drawing:
                for _ in drawing:
                    yield presenting.working_panel(run.place or words.DRAWING, run.made, total), []
        yield presenting.working_panel(words.PREPARING, total, total), arms


def _draw(
    run: ModelRun,
    sessions: Mapping[str, ReportToImage],
    rows: Sequence[PromptRow],
    arms: list[PreparedArm],
    report: Callable[[float], None],
) -> None:
    """Waits for its turn and fills `arms`; lets others go first between two batches, and ends where `report` raises."""

    def should_stop() -> bool:
        report(0.0)
        run.end_if_closing()
        return False

    for _ in run.places():
        report(0.0)
    for made, drawn in drawn_arms(sessions, rows, should_stop):
        run.made = made
        arms += drawn
        for _ in run.others_first() if made and not drawn else ():
            report(0.0)


def _plan(values: dict[str, Any]) -> StudyPlan:
    design = values["design"]
    seed, per_arm = values["seed"], int(values["per_arm"] or 0)
    return StudyPlan(
        design=design,
        title=(values["title"] or "").strip(),
        modality=values["modality"],
        seed=None if seed is None else int(seed),
        repeats=min((values["repeats"] or 0) / 100, 1 / 3),
        consent=(values["consent"] or "").strip(),
        ethics=(values["ethics"] or "").strip(),
        question=(values["question"] or "").strip() or "Which image is better?",
        items=_items(values["items"] or "") if design == "likert" else (),
        per_arm=per_arm or None,
        with_reports=bool(values["with_reports"]),
    )


def _items(text: str) -> tuple[tuple[str, str], ...]:
    items = []
    for line in filter(str.strip, text.splitlines()):
        name, colon, question = line.partition(":")
        if not (colon and name.strip() and question.strip()):
            raise EvaluationError(words.BAD_ITEMS)
        items.append((name.strip(), question.strip()))
    return tuple(items)


def _uploads(values: dict[str, Any]) -> list[str]:
    files = [file for arm, _ in words.ARMS for file in values[f"files_{arm}"] or ()]
    return [*files, *([values["prompts"]] if values["prompts"] else [])]


def _owned(text: str, owner_code: str) -> ReaderStudy:
    code = Code.parse(text)
    if code.reader is not None:
        raise EvaluationError(words.NEEDS_STUDY_CODE)
    study = ReaderStudy(study_path(code.study))
    if not study.is_owner(owner_code):
        raise EvaluationError(words.WRONG_OWNER)
    return study


def _results(study: ReaderStudy) -> str:
    summary = reader_summary(study)
    written = json.dumps(summary_json(summary), indent=2, ensure_ascii=False) + "\n"
    downloads = (
        ("Answers (CSV)", f"{study.code}-answers.csv", answers_csv(study)),
        ("Summary (JSON)", f"{study.code}-summary.json", written),
    )
    return presenting.results_panel(summary_tables(summary), SUMMARY_NOTICE, downloads)
