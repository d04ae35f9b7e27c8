import torch

from arra_med.corpus.collator import Collator
from arra_med.corpus.dataset import Example
from arra_med.tokens.layout import SequenceLayout, Span


def example(text_ids: list[int], codes: list[int], layout: SequenceLayout, *features: torch.Tensor) -> Example:
    input_ids, span = layout.training_ids(text_ids, codes)
    return Example(
        input_ids=input_ids,
        context_ids=[*input_ids[:-1], 77],
        image_span=span,
        key=f"image{len(text_ids)}#0",
        teacher_features=features,
    )


def test_a_batch_worked_out_by_hand(layout: SequenceLayout) -> None:
    short = example([50], [0, 1, 2, 3], layout, torch.tensor([1.0, 2.0]))
    long = example([60, 61, 62], [11, 10, 9, 8], layout, torch.tensor([3.0, 4.0]))
    batch = Collator(layout)([short, long])
    assert batch["input_ids"].tolist() == [
        [0, 50, 2, 200, 201, 202, 203, 3, 1, 1],
        [0, 60, 61, 62, 2, 211, 210, 209, 208, 3],
    ]
    assert batch["context_ids"].tolist() == [
        [0, 50, 2, 200, 201, 202, 203, 77, 1, 1],
        [0, 60, 61, 62, 2, 211, 210, 209, 208, 77],
    ]
    assert batch["attention_mask"].tolist() == [[1] * 8 + [0] * 2, [1] * 10]
    assert batch["labels"].tolist() == [
        [-100, -100, -100, 200, 201, 202, 203, 3, -100, -100],
        [-100, -100, -100, -100, -100, 211, 210, 209, 208, 3],
    ]
    assert batch["image_start"].tolist() == [3, 5]
    assert batch["keys"] == ["image1#0", "image3#0"]
    assert [features.tolist() for features in batch["teacher_features"]] == [[[1.0, 2.0], [3.0, 4.0]]]
    assert all(batch[name].dtype == torch.int64 for name in ("input_ids", "attention_mask", "labels", "image_start"))


def test_a_rep_token_is_no_label(layout: SequenceLayout) -> None:
    vocabulary = layout.vocabulary.model_copy(update={"rep_id": 150})
    with_rep = layout.model_copy(update={"vocabulary": vocabulary})
    batch = Collator(with_rep)([example([50], [0, 1, 2, 3], with_rep)])
    assert batch["input_ids"].tolist() == [[0, 50, 2, 150, 200, 201, 202, 203, 3]]
    assert batch["labels"].tolist() == [[-100, -100, -100, -100, 200, 201, 202, 203, 3]]
    assert batch["image_start"].tolist() == [4]


def test_labels_start_and_end_where_the_layout_says(layout: SequenceLayout) -> None:
    row = example([7, 8], [5, 5, 5, 5], layout)
    labels = Collator(layout)([row])["labels"][0]
    predicting = layout.predicting_span(Span(*row["image_span"]))
    labelled = (labels != -100).nonzero().flatten().tolist()
    assert labelled == [*range(predicting.start + 1, predicting.stop + 1), predicting.stop + 1]


def test_a_longer_neighbour_only_adds_padding(layout: SequenceLayout) -> None:
    row = example([50, 51], [4, 4, 5, 5], layout)
    alone = Collator(layout)([row])
    beside = Collator(layout)([row, example([9] * 30, [0, 0, 0, 0], layout)])
    length = len(row["input_ids"])
    for name, padding in (("input_ids", 1), ("attention_mask", 0), ("labels", -100)):
        assert torch.equal(beside[name][0, :length], alone[name][0])
        assert (beside[name][0, length:] == padding).all()
    assert beside["image_start"][0] == alone["image_start"][0]


def test_without_a_teacher_there_are_no_features(layout: SequenceLayout) -> None:
    assert "teacher_features" not in Collator(layout)([example([50], [0, 1, 2, 3], layout)])


def test_each_teachers_features_are_stacked_apart(layout: SequenceLayout) -> None:
    rows = [
        example([50], [0] * 4, layout, torch.full((2,), float(row)), torch.full((4, 3), row + 0.5)) for row in (1, 2)
    ]
    first, second = Collator(layout)(rows)["teacher_features"]
    assert first.tolist() == [[1.0, 1.0], [2.0, 2.0]]
    assert second.shape == (2, 4, 3)
    assert second[:, 0, 0].tolist() == [1.5, 2.5]
