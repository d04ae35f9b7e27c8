from pathlib import Path

import numpy as np
import pytest

from arra_med.errors import EvaluationError
from arra_med.evaluate.image_folder import read_view_folder
from arra_med.generate.export_png import write_png
from arra_med.generate.session import DIGITAL_SOURCE_TYPE

PICTURE = np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))


def write(path: Path, **marks: bool) -> None:
    made_from = {
        "modality": "cxr",
        "versions": {"arra-med": "1"},
        "bundle": {"name": "b", "sha256": "0"},
        "digital_source_type": DIGITAL_SOURCE_TYPE,
        "notice": "Synthetic.",
    }
    write_png(path, PICTURE, {**made_from, "marks": marks})


def test_images_that_carry_the_marks_of_an_export_are_not_judged(tmp_path: Path):
    write(tmp_path / "a.png", visible=False)
    np.testing.assert_array_equal(read_view_folder(tmp_path, "cxr").views[0][0], PICTURE)
    write(tmp_path / "b.png", visible=True)
    with pytest.raises(EvaluationError, match="1 of 2 images carry the marks of an export.*--no-visible-mark"):
        read_view_folder(tmp_path, "cxr")
