"""What the tests of several layouts share."""

OBSERVATIONS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
"""The columns of MIMIC-CXR-JPG's tables of labels, in their order."""


def facts(record, *names):
    """The named fields of a record."""
    return tuple(getattr(record, name) for name in names)
