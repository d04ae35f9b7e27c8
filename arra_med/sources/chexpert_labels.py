"""The 14 observations of the CheXpert labeller, as MIMIC-CXR-JPG, CheXpert and CheXpert Plus publish them.

1 is present and becomes a label. 0 is absent, -1 uncertain and an empty cell not mentioned: none of them is a label, and
none is ever worded as "no ...", since `StudyRecord.labels` holds only what is there. A study without any 1 has no label.

Source: Irvin et al., CheXpert, AAAI 2019, arXiv 1901.07031, section 3; columns as in the published tables.
"""

from collections.abc import Mapping
from pathlib import Path

from arra_med.records.observations import OBSERVATIONS
from arra_med.sources.tables import Row, read_table

PRESENT, NOT_PRESENT = True, False
VALUES: Mapping[str, bool] = {
    "1": PRESENT,
    "1.0": PRESENT,
    "0": NOT_PRESENT,
    "0.0": NOT_PRESENT,
    "-1": NOT_PRESENT,
    "-1.0": NOT_PRESENT,
    "": NOT_PRESENT,
}
"""What a cell means."""


def labels_of(row: Row) -> tuple[str, ...]:
    """Returns the observations that a row with the 14 columns marks as present.

    Raises:
        ManifestError: If a cell holds anything but 1, 0, -1 or nothing.
    """
    return tuple(name for name in OBSERVATIONS if row.one_of(name, VALUES))


def read_study_labels(table: Path) -> dict[str, tuple[str, ...]]:
    """Reads MIMIC-CXR-JPG's table of labels.

    Args:
        table: `mimic-cxr-2.0.0-chexpert.csv.gz` or `...-negbio.csv.gz`.

    Returns:
        The present observations of each `study_id`; equal tuples are shared.
    """
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    return {
        row.filled("study_id"): shared.setdefault(labels := labels_of(row), labels)
        for row in read_table(table, "study_id", *OBSERVATIONS)
    }
