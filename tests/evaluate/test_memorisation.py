"""A model that draws its training image is caught, and a stopped attack goes on where it was."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arra_med.corpus.study_rows import decode_png
from arra_med.errors import EvaluationError
from arra_med.evaluate import memorisation
from arra_med.evaluate.copies import Match, Threshold
from arra_med.evaluate.memorisation import AttackedRow, MemorisationAttack, summarise, unique_prompt_images
from arra_med.records.study import StudyRecord

THRESHOLD = Threshold(0.9, 0.01, 0.95, 299, 0)


@pytest.fixture(autouse=True)
def _no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn is fixed here, so that no model is needed."""
    monkeypatch.setattr(memorisation, "open_backend", lambda *_: SimpleNamespace(name="transformers"))


def record(number: int, report: str) -> StudyRecord:
    return StudyRecord(
        image_id=f"i{number}", patient_id=f"p{number}", modality="cxr", source="s", report=report, split="train"
    )


RECORDS = [record(0, "Effusion."), record(1, "Effusion."), record(2, "Pneumothorax."), record(3, "Cardiomegaly.")]


def view(similarity: float) -> np.ndarray:
    """An image that says itself how much it resembles image 2."""
    return np.full((1, 4, 4), round(100 * similarity), np.uint8)


def digest_of(number: int) -> str:
    return hashlib.sha256(f"i{number}".encode()).hexdigest()[:16]


def told(view: np.ndarray) -> float:
    return int(view[0, 0, 0]) / 100


def attack(out: Path, fingerprint: str = "ab", **settings: Any) -> MemorisationAttack:
    """The second of two seeds draws the training image itself, for image 2 alone."""
    dataset: Any = SimpleNamespace(
        evaluation=True,
        seed=0,
        epoch=0,
        examples=[(number, 0) for number in range(4)],
        corpus=SimpleNamespace(records=RECORDS, info=SimpleNamespace(study_set_sha256="c")),
    )
    finder: Any = SimpleNamespace(
        spaces=[SimpleNamespace(name="edges", fingerprint="e")],
        matches=lambda views: [Match(told(view), 2, {"edges": 0.5}, {"edges": 2}) for view in views],
        similarity_to=lambda view, row: told(view) if row == 2 else 0.1,
    )
    training: Any = SimpleNamespace(image_ids=[r.image_id for r in RECORDS])
    bundle: Any = SimpleNamespace(fingerprint=fingerprint, model=None, layout=None)
    made = MemorisationAttack(bundle, dataset, finder, training, out, **{"num_seeds": 2, **settings})
    made._drawn = lambda example: [view(0.2), view(0.95 if example == 2 else 0.3)]  # type: ignore[method-assign]
    return made


def test_only_reports_of_one_image_are_unique() -> None:
    assert unique_prompt_images(RECORDS, range(4)) == [2, 3]


def test_a_drawn_training_image_is_counted(tmp_path: Path) -> None:
    found = summarise(attack(tmp_path / "a").run([2, 3]), THRESHOLD)
    assert (found.rows_with_own_copy.count, found.rows_with_own_copy.total) == (1, 2)
    assert (found.images_with_any_copy.count, found.images_with_any_copy.total) == (1, 4)
    (picture,) = (decode_png(file.read_bytes()) for file in (tmp_path / "a").glob(f"{digest_of(2)}.png"))
    np.testing.assert_array_equal(picture, view(0.95))  # the most suspicious one is kept
    assert found.row_false_alarm_rate == pytest.approx(1 - 0.99**2)


def test_a_stopped_attack_goes_on(tmp_path: Path) -> None:
    def stop(example: int) -> list[np.ndarray]:
        if example == 3:
            raise KeyboardInterrupt
        return [view(0.2), view(0.95)]

    first = attack(tmp_path)
    first._drawn = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.run([2, 3])
    drawn: list[int] = []
    again = attack(tmp_path)
    again._drawn = lambda example: drawn.append(example) or [view(0.2), view(0.3)]  # type: ignore[method-assign, func-returns-value]
    rows = again.run([2, 3])
    assert drawn == [3]
    assert rows[0].own == (0.2, 0.95)


def test_a_damaged_row_is_attacked_again(tmp_path: Path) -> None:
    whole = attack(tmp_path).run([2])
    path = tmp_path / f"{digest_of(2)}.json"
    path.write_text(path.read_text()[:20])
    assert attack(tmp_path).run([2]) == whole
    path.with_suffix(".png").unlink()
    assert attack(tmp_path).run([2]) == whole
    assert path.with_suffix(".png").is_file()


def test_the_most_suspicious_image_by_hand() -> None:
    row = AttackedRow("own", (0.1, 0.9), (0.8, 0.95), ("a", "b"), {})
    assert row.worst == (1, 0.95, "b")
    assert AttackedRow("own", (0.1, 0.96), (0.8, 0.95), ("a", "b"), {}).worst == (1, 0.96, "own")


def test_wrong_inputs_are_said(tmp_path: Path) -> None:
    attack(tmp_path)
    with pytest.raises(EvaluationError, match="holds an attack on another model or with other settings"):
        attack(tmp_path, fingerprint="cd")
    with pytest.raises(EvaluationError, match="0 seeds and 1 epochs were given"):
        attack(tmp_path, num_seeds=0)
    with pytest.raises(EvaluationError, match="not among the training images"):
        made = attack(tmp_path)
        made._row_of_id = {}
        made.run([2])
    with pytest.raises(EvaluationError, match="there is nothing to attack"):
        summarise([], THRESHOLD)
    (tmp_path / "settings.json").unlink()
    (tmp_path / "row.json").write_text("{}")
    with pytest.raises(EvaluationError, match="no readable settings.json"):
        attack(tmp_path)
