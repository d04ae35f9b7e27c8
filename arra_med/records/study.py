"""One image and what is known about it; empty means unknown, never "no"."""

from typing import Literal

from pydantic import Field

from arra_med.config import StrictModel

Modality = Literal["cxr", "fundus", "photo"]
View = Literal["PA", "AP", "lateral"]
Laterality = Literal["L", "R"]
AgeGroup = Literal["adult", "child"]
ReportKind = Literal["written", "from_labels", "keywords"]
Split = Literal["train", "validation", "test"]

ADULT_FROM_YEARS = 18


class StudyRecord(StrictModel):
    """An image, its report and labels, and the terms on which it may be used.

    Attributes:
        image_id: Names the image across all sources; `source/stem` in the shared tables.
        patient_id: Names the patient across all sources; images of one patient never stand in two splits.
        modality: Chest radiograph (`cxr`), colour fundus photograph, or any other photograph (`photo`, ImageNet).
        view: Projection of a chest radiograph.
        laterality: Eye of a fundus photograph.
        sex: As the source says.
        age: In years.
        age_group: A child is younger than 18 years.
        path: The image file; empty once its pixels live in a study set.
        report: Report text, or a sentence made from labels; `report_kind` says which.
        report_kind: `written` by a clinician, made `from_labels`, or diagnostic `keywords` of the source.
        labels: The source's own label names, in the source's order.
        source: Name of the data card.
        licence: Licence of this row in its holder's words.
        redistributable: Whether weights trained on this row may be passed on under an open licence.
        patient_known: Whether `patient_id` is a real patient's; else every image counts as its own patient.
        attribution: Words that must stand beside this image where it is shown.
        split: The part of the data this row is in; all rows of a patient share it.
    """

    image_id: str = Field(min_length=1)
    patient_id: str = Field(min_length=1)
    modality: Modality
    view: View | None = None
    laterality: Laterality | None = None
    sex: Literal["M", "F"] | None = None
    age: float | None = Field(default=None, ge=0, le=130)
    age_group: AgeGroup | None = None
    path: str = ""
    report: str = ""
    report_kind: ReportKind | None = None
    labels: tuple[str, ...] = ()
    source: str = Field(min_length=1)
    licence: str = ""
    redistributable: bool = False
    patient_known: bool = False
    attribution: str = ""
    split: Split | None = None


def age_group_of(age: float | None) -> AgeGroup | None:
    """Returns the age group of an age in years; an unknown age has no group."""
    if age is None:
        return None
    return "adult" if age >= ADULT_FROM_YEARS else "child"
