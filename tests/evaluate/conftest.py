"""What the tests of this room share: the tiny bundle, and studies for its prompts."""

from pathlib import Path

import numpy as np
import pytest

from arra_med.evaluate.finding_judge import LabelledFeatures
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


def labelled_features(
    num: int,
    *,
    seed: int,
    signal: float = 2.0,
    prefix: str = "held-out",
    images_each: int = 2,
    source: str = "nih_cxr14",
    judge: str = "fixed",
) -> LabelledFeatures:
    """Features of `num` images: every third is an effusion, which shifts feature 0; every fifth a mass, feature 1."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num, 12)).astype(np.float32)
    records = []
    for row in range(num):
        labels = [name for name, every in (("effusion", 3), ("mass", 5)) if row % every == 0]
        features[row, 0] += signal * (row % 3 == 0)
        features[row, 1] += signal * (row % 5 == 0)
        records.append(
            StudyRecord(
                image_id=f"{prefix}/{row}",
                patient_id=f"{prefix}-{row // images_each}",
                modality="cxr",
                view=("PA", "AP")[row % 2],
                sex=("F", "M", None)[row // 7 % 3],
                age_group="adult" if row % 4 else "child",
                source=source,
                labels=tuple(labels) or ("normal",),
            )
        )
    return LabelledFeatures(judge, features, tuple(records))
