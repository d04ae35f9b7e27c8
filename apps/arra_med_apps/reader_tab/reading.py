"""What a reader does: enter a code, agree, answer one image after the other, stop and go on."""

import time
from typing import Any, NamedTuple

import gradio as gr

from arra_med.errors import EvaluationError
from arra_med.evaluate.reader_store import ReaderStudy
from arra_med.evaluate.reader_study import Code, study_path
from arra_med_apps.generate_tab.presenting import note_panel
from arra_med_apps.reader_tab import presenting, words
from arra_med_apps.reader_tab.layout import Layout
from arra_med_apps.reader_tab.telling import Updates, told

_CHOICE_WORDS = {"real": "Real", "synthetic": "Synthetic", "left": "Left is better", "right": "Right is better"}


class At(NamedTuple):
    """Where a reader is; it stays on the server.

    Attributes:
        code: The reader's, or the study's before the first image.
        place: Of the image that is shown.
        since: When it was shown, on the monotonic clock.
    """

    code: str
    place: int
    since: float


class Reading:
    """Handlers of the part "Read"; each returns updates by component."""

    def __init__(self, page: Layout) -> None:
        self.page = page

    @told("notice")
    def enter(self, text: str) -> Updates:
        """Opens a study by its code or a reader's."""
        code = Code.parse(text)
        study = ReaderStudy(study_path(code.study))
        if code.reader is not None:
            return self._next(study, code)
        page = self.page
        return {
            **self._only(page.consent),
            page.state: At(str(code), 0, 0.0),
            page.consent_text: presenting.consent_panel(study.settings, len(study.cases)),
            page.agree: gr.Checkbox(value=False, visible=bool(study.settings.consent)),
        }

    @told("notice")
    def begin(self, state: At | None, agreed: bool) -> Updates:
        """Adds a reader and shows the first image."""
        study, _ = _opened(state)
        code = study.join(consented=bool(agreed))
        return {**self._next(study, code), self.page.notice: note_panel(f"{words.YOUR_CODE} {code}")}

    @told("notice")
    def choose(self, state: At | None, index: int) -> Updates:
        """Saves one of two choices."""
        study, _ = _opened(state)
        question = study.settings.questions[0]
        return self._answer(state, {question.name: question.choices[index]})

    @told("notice")
    def save(self, state: At | None, *marks: str | None) -> Updates:
        """Saves the marks of all items."""
        study, _ = _opened(state)
        questions = study.settings.questions
        if any(mark is None for mark in marks[: len(questions)]):
            raise EvaluationError(words.ANSWER_ALL)
        return self._answer(state, {q.name: str(mark) for q, mark in zip(questions, marks, strict=False)})

    @told("notice")
    def undo(self, state: At | None) -> Updates:
        """Takes back the last answer and shows its image again."""
        study, code = _opened(state)
        undone = study.undo(code)
        return {
            **self._next(study, code),
            self.page.notice: note_panel(words.UNDONE if undone else words.NOTHING_TO_UNDO),
        }

    def leave(self) -> Updates:
        """Shows the entrance again; everything is saved already."""
        page = self.page
        return {
            **self._only(page.enter),
            page.notice: note_panel(words.LEFT),
            page.state: None,
            page.code: "",
            page.image: "",
        }

    def _answer(self, state: At | None, choices: dict[str, str]) -> Updates:
        study, code = _opened(state)
        assert state is not None
        saved = study.answer(code, state.place, choices, time.monotonic() - state.since)
        updates = self._next(study, code)
        return updates if saved else {**updates, self.page.notice: note_panel(words.ALREADY)}

    def _next(self, study: ReaderStudy, code: Code) -> Updates:
        page, task, settings = self.page, study.task(code), study.settings
        if task is None:
            return {
                **self._only(page.done),
                page.thanks: presenting.thanks_panel(str(code)),
                page.state: None,
                page.image: "",
            }
        updates = {
            **self._only(page.reading),
            page.state: At(str(code), task.place, time.monotonic()),
            page.progress: presenting.progress_line(task.place, task.total, str(code)),
            page.image: presenting.task_panel(task, settings),
            page.question: presenting.question_line(settings),
            page.keys: presenting.keys_line(settings),
            page.choices: gr.Row(visible=not settings.items),
            page.save: gr.Button(visible=bool(settings.items)),
        }
        if not settings.items:
            for button, choice in zip(page.choice, settings.questions[0].choices, strict=True):
                updates[button] = gr.Button(_CHOICE_WORDS[choice])
        for index, radio in enumerate(page.marks):
            if index < len(settings.items):
                item = settings.items[index]
                marks = [str(mark) for mark in range(1, item.points + 1)]
                label = f"{item.text} (1: {item.low}, {item.points}: {item.high})"
                updates[radio] = gr.Radio(marks, value=None, label=label, visible=True)
            else:
                updates[radio] = gr.Radio(visible=False)
        return updates

    def _only(self, shown: Any) -> Updates:
        page = self.page
        columns = (page.enter, page.consent, page.reading, page.done)
        return {page.notice: "", **{column: gr.Column(visible=column is shown) for column in columns}}


def _opened(state: At | None) -> tuple[ReaderStudy, Code]:
    if state is None:
        raise EvaluationError(words.NOT_OPEN)
    code = Code.parse(state.code)
    return ReaderStudy(study_path(code.study)), code
