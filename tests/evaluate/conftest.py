"""What the tests of this room share: the tiny bundle, and studies for its prompts."""

from pathlib import Path

import pytest

from arra_med.records.study import StudyRecord
from tests.evaluate.tiny_audit import tiny_audit
from tests.evaluate.tiny_study import TinyStudy, write_tiny_study
from tests.generate.conftest import bundle, layout, model

__all__ = ["bundle", "layout", "model", "tiny_audit"]


@pytest.fixture
def records() -> list[StudyRecord]:
    """Forty chest studies of twenty patients."""
    labels = (("effusion",), ("normal",), ("pneumothorax",), ("effusion", "pneumothorax"))
    return [
        StudyRecord(
            image_id=f"tiny/{row}",
            patient_id=f"patient-{row // 2}",
            modality="cxr",
            view="PA",
            source="nih_cxr14",
            labels=labels[row % 4],
            split="validation",
        )
        for row in range(40)
    ]


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """The input of a tiny study."""
    with pytest.MonkeyPatch.context() as patch:
        root: Path = tmp_path_factory.mktemp("tiny_study")
        patch.setenv("ARRA_MED_KEY_FILE", str(root / "key"))
        return write_tiny_study(root)
