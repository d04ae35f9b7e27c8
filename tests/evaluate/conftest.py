"""What the tests of this room share: the tiny bundle, and studies for its prompts."""

import pytest

from arra_med.records.study import StudyRecord
from tests.generate.conftest import bundle, layout, model

__all__ = ["bundle", "layout", "model"]


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
