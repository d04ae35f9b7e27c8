"""What the sources call a projection, a sex and an age, in the words of `StudyRecord`. Unknown words are unknown."""

import re
from typing import Any, Literal

from arra_med.records.study import View, age_group_of

OLDEST_YEARS = 90.0
"""Ages of 90 and above identify people and are one group (HIPAA safe harbour, 45 CFR 164.514(b)(2))."""

_IMPLAUSIBLE_YEARS = 130.0  # ChestX-ray14 holds ages such as 414

# Decubitus (AP LLD, PA RLD), oblique (LAO, RPO) and swimmer's views are none of the three, and stay unknown.
_VIEWS: dict[str, View] = {
    "PA": "PA",
    "POSTEROANTERIOR": "PA",
    "AP": "AP",
    "ANTEROPOSTERIOR": "AP",
    "AP AXIAL": "AP",
    "AP HORIZONTAL": "AP",
    "AP SUPINE": "AP",
    "L": "lateral",
    "LL": "lateral",
    "RL": "lateral",
    "LATERAL": "lateral",
    "LEFT LATERAL": "lateral",
    "RIGHT LATERAL": "lateral",
    "XTABLE LATERAL": "lateral",
}
_SEXES: dict[str, Literal["M", "F"]] = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F"}
_YEARS_OF_UNIT = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def view_of(text: str) -> View | None:
    """Returns the projection that a source's word names, in any spelling ("postero-anterior", "AP_horizontal")."""
    words = re.sub(r"[\s_]+", " ", text.upper().replace("-", "")).strip()
    return _VIEWS.get(words)


def sex_of(text: str) -> Literal["M", "F"] | None:
    """Returns M or F for "M", "Male", "F", "Female" in any case, else `None`."""
    return _SEXES.get(text.strip().upper())


def age_fields(text: str) -> dict[str, Any]:
    """Returns the record's `age` (years, at most 90) and `age_group`.

    Args:
        text: Years ("58", "58.0"), or a DICOM Age String ("058Y", "003M"; PS3.5 6.2). Anything else, and an age above
            130, counts as unknown.
    """
    parts = re.fullmatch(r"(\d{1,3})(?:\.\d*)?([YMWD]?)", text.strip())
    years = int(parts[1]) * _YEARS_OF_UNIT[parts[2]] if parts else None
    if years is None or years > _IMPLAUSIBLE_YEARS:
        return {}
    return {"age": min(years, OLDEST_YEARS), "age_group": age_group_of(years)}
