"""What is opened once for all users of the page: the models' checks and the judge."""

import threading

from arra_med.evaluate.check_reference import CHECK_FILE
from arra_med.evaluate.finding_scores import FindingRow, PictureJudge, open_picture_judge, score_pictures
from arra_med.evaluate.quality_gate import QualityGate, open_quality_gate
from arra_med.models.bundle import read_bundle_info
from arra_med_apps.choices import Shelf
from arra_med_apps.compare_tab.form import Compared
from arra_med_apps.settings import AppSettings


class Evidence:
    """Opens each part when it is first needed and keeps it.

    Args:
        settings: Which folders may be read.
        shelf: The models.
    """

    def __init__(self, settings: AppSettings, shelf: Shelf) -> None:
        self.settings, self.shelf = settings, shelf
        self._gates: dict[str, QualityGate] = {}
        self._judge: PictureJudge | None = None
        self._checking, self._judging = threading.Lock(), threading.Lock()

    def gate(self, model: str) -> QualityGate | None:
        """Returns the check that came with a model's bundle; none: it has none.

        Raises:
            EvaluationError: If it is damaged, or its encoder is not installed.
        """
        folder = self.shelf.choices[model].folder
        if folder is None or not (folder / CHECK_FILE).is_file():
            return None
        with self._checking:
            if model not in self._gates:
                self._gates[model] = open_quality_gate(folder / CHECK_FILE, read_bundle_info(folder))
            return self._gates[model]

    def judge(self) -> PictureJudge | None:
        """Returns the judge; none was given.

        Raises:
            EncoderError: If its folder is damaged.
        """
        if self.settings.judge is None:
            return None
        with self._judging:
            if self._judge is None:
                self._judge = open_picture_judge(self.settings.judge)
            return self._judge

    def scores(self, judge: PictureJudge, compared: Compared) -> tuple[list[FindingRow], list[str]]:
        """Returns the scores of the findings that the report named, and what is not known of the judge.

        Raises:
            EvaluationError: If the judge is of another kind than the pictures, or a score is not finite.
            OverlapError: If it was a model's teacher.
        """
        unknown: list[str] = []
        for row in compared.rows:
            unknown += judge.require_fair(self.shelf.open(row.model).bundle.info)
        findings = [finding for finding in judge.classifier.findings if finding in compared.report_findings]
        if not findings:
            return [], unknown
        labels = [row.label for row in compared.rows]
        names = labels if len(set(labels)) == len(labels) else [row.model for row in compared.rows]
        pictures = {name: row.views for name, row in zip(names, compared.rows, strict=True)}
        return score_pictures(judge, pictures, findings), list(dict.fromkeys(unknown))
