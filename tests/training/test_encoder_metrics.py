"""Held-out measures: values worked out by hand, counts beside every AUROC."""

import numpy as np
import pytest

from arra_med.training.encoder_metrics import aurocs_by_source, finding_aurocs, label_retrieval, macro_auroc

NAN = float("nan")


def test_an_auroc_leaves_the_unknown_out_and_says_how_many_there_are() -> None:
    scores = np.array([[0.9], [0.8], [0.3], [0.1], [5.0]])
    (row,) = finding_aurocs(scores, np.array([[1], [0], [1], [0], [NAN]]), ["effusion"])
    assert (row["num_positive"], row["num_negative"], row["auroc"]) == (2, 2, 0.75)
    assert row["verdict"] == "not estimable"


def test_thirty_of_each_kind_make_a_headline() -> None:
    targets = np.array([[1.0, 1.0]] * 30 + [[0.0, NAN]] * 30)
    rows = finding_aurocs(targets.copy(), targets, ["effusion", "mass"])
    assert [row["verdict"] for row in rows] == ["estimable", "not estimable"]
    assert [row["auroc"] for row in rows] == [1.0, None]
    assert macro_auroc(rows) == 1.0
    assert macro_auroc(rows[1:]) is None


def test_sources_are_told_apart() -> None:
    scores, targets = np.array([[1.0], [0.0], [1.0], [0.0]]), np.array([[1.0], [0.0], [0.0], [1.0]])
    table = aurocs_by_source(scores, targets, ["effusion"], ["a", "a", "b", "b"])
    assert [table[source][0]["auroc"] for source in ("all sources", "a", "b")] == [0.5, 1.0, 0.0]


def test_retrieval_counts_images_and_sets_of_labels() -> None:
    similarity = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    told = label_retrieval(similarity, [0, 0, 2])
    assert told["recall_at_1"] == pytest.approx(2 / 3)
    assert told["macro_recall_at_1"] == 0.5
    assert told["recall_at_5"] == 1.0
    assert (told["chance_at_1"], told["chance_at_5"]) == (pytest.approx(1 / 3), 1.0)
