"""A record without identifiers in its columns: pseudonyms for ids, and ages above 89 as one group.

Source: 45 CFR 164.514(b)(2)(i), the identifiers of HIPAA's safe harbour.
"""

from arra_med.records.pseudonym import Pseudonymizer
from arra_med.records.study import StudyRecord

OLDEST_YEARS = 90.0
"""What ages above 89 become."""


def pseudonymous_record(record: StudyRecord, pseudonymizer: Pseudonymizer, *, private: bool) -> StudyRecord:
    """Returns a record whose ids name nobody. `path` and `report` stay: the file is read, and the text scrubbed, later.

    Args:
        record: As a source made it.
        pseudonymizer: Makes the pseudonyms.
        private: Whether the data were never published (their data card names no web address). Then the image id, which
            in a hospital is often an accession number or a file name, is hashed too. The image ids of a published
            data set are its own pseudonyms, and joining with its tables needs them.
    """
    hashed = f"{record.source}/{pseudonymizer.of(record.image_id)}"
    return record.model_copy(
        update={
            "image_id": hashed if private else record.image_id,
            "patient_id": pseudonymizer.of(f"{record.source}/{record.patient_id}"),
            "age": None if record.age is None else min(record.age, OLDEST_YEARS),
        }
    )
