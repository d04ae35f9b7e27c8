"""The search among the images that trained the models: opened once for all tabs and users of the page."""

import contextlib
import functools
import threading
from collections.abc import Callable, Generator

from arra_med.corpus.study_set import StudySet
from arra_med.errors import EvaluationError
from arra_med.evaluate.training_search import TrainingSearch, open_training_search
from arra_med.models.bundle import ModelBundle
from arra_med.runs import sha256_json
from arra_med_apps import words
from arra_med_apps.choices import Shelf
from arra_med_apps.following import follow
from arra_med_apps.progress import working
from arra_med_apps.settings import AppSettings

_WAITING_S = 0.4


class TrainingImages:
    """Opens a search when it is first needed and keeps it.

    Args:
        settings: Which study set may be read.
        shelf: The models.
    """

    def __init__(self, settings: AppSettings, shelf: Shelf) -> None:
        self.settings, self.shelf = settings, shelf
        self._searches: dict[str, TrainingSearch] = {}
        self._preparing = threading.Lock()

    @property
    def are_given(self) -> bool:
        """Whether the app was started with a study set."""
        return self.settings.training is not None

    def search(self, model: str, report: Callable[[float], None]) -> TrainingSearch:
        """Returns the search among the images that trained a model; minutes the first time.

        Raises:
            StudySetError: If the study set is damaged.
            EvaluationError: If it does not fit the model, or no study set was given.
        """
        if self.settings.training is None:
            raise EvaluationError("no study set was given")
        bundle = self.shelf.open(model).bundle
        key = _training_key(bundle)
        if key in self._searches:
            return self._searches[key]
        while not self._preparing.acquire(timeout=_WAITING_S):
            report(0.0)  # another user's search is being prepared; raises when this one has been stopped
        try:
            if key not in self._searches:
                studies = StudySet.open(self.settings.training)
                self._searches[key] = open_training_search(studies, bundle, report=report)
            return self._searches[key]
        finally:
            self._preparing.release()

    def prepared(self, model: str) -> Generator[str, None, TrainingSearch]:
        """Yields a bar while `search` works, and returns the search; closing it stops the work."""
        with contextlib.closing(follow(functools.partial(self.search, model))) as opening:
            while True:
                try:
                    share, left = next(opening)
                except StopIteration as finished:
                    search: TrainingSearch = finished.value
                    return search
                yield working(words.TRAINING_PREPARING, share, left)


def _training_key(bundle: ModelBundle) -> str:
    """Equal for models that were trained on the same rows with the same image tokenizer."""
    told = bundle.info.training
    tokenizer = told.get("tokenizer_sha256") or bundle.fingerprint
    settings = told.get("settings", {})
    return sha256_json(
        [tokenizer, settings.get("sources"), settings.get("fold"), told.get("study_set_sha256"), bundle.info.modality]
    )
