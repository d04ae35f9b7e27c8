"""Sources that look different are told apart, sources that do not are not, and small ones are left out."""

import numpy as np
import pytest

from arra_med.errors import EvaluationError
from arra_med.evaluate.finding_judge import LabelledFeatures
from arra_med.evaluate.source_control import measure_source_control
from tests.evaluate.conftest import labelled_features


def together(shift: float, num_third: int = 0) -> LabelledFeatures:
    parts = [
        labelled_features(160, seed=0, prefix="a", source="nih_cxr14"),
        labelled_features(80, seed=1, prefix="b", source="padchest"),
    ]
    if num_third:
        parts.append(labelled_features(num_third, seed=2, prefix="c", source="openi"))
    features = np.concatenate([part.features + shift * number for number, part in enumerate(parts)])
    return LabelledFeatures("fixed", features, tuple(record for part in parts for record in part.records))


def test_sources_are_told_apart_only_where_they_differ() -> None:
    apart, alike = measure_source_control(together(3.0)), measure_source_control(together(0.0))
    assert apart.kind.startswith("control")
    assert apart.chance == 0.5
    assert apart.num_images == {"nih_cxr14": 160, "padchest": 80}
    assert apart.balanced_accuracy.estimate > 0.95
    assert alike.balanced_accuracy.low < 0.5 < alike.balanced_accuracy.high


def test_a_source_of_few_patients_is_left_out_and_said() -> None:
    control = measure_source_control(together(3.0, num_third=12))  # six patients, ten needed
    assert (control.left_out, control.chance) == ({"openi": 12}, 0.5)


def test_one_source_is_no_control() -> None:
    with pytest.raises(EvaluationError, match="1 of 1 sources have the 10 patients that 5 folds need"):
        measure_source_control(labelled_features(100, seed=0))
    with pytest.raises(EvaluationError, match="num_folds is 1: cross-validation needs at least 2"):
        measure_source_control(together(1.0), num_folds=1)
