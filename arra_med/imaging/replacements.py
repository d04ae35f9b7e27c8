"""What stands in the place of a DICOM value: dummies, other UIDs, and dates moved by some days.

Source: DICOM PS3.5 6.2 (value representations), PS3.15 E.1 (dummy values, modified dates).
"""

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue

DATE_VRS = frozenset({"DA", "DT", "TM"})

_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")
_TIME = re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)?")
_DATE_TIME = re.compile(r"(\d{8})(\d{0,6}(?:\.\d{1,6})?)(?:[+-]\d{4})?")
_DUMMIES: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "REMOVED"),
    **dict.fromkeys(("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), 0),
    **dict.fromkeys(("DS", "IS"), "0"),
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "UR": "https://removed.invalid",  # RFC 2606 reserves the name
}
_DUMMY_BYTES = bytes(8)  # a whole number of values of any binary VR


def dummy_of(element: DataElement) -> DataElement:
    """Returns an element whose value says nothing and fits its VR; a sequence gets one empty item. Empty stays empty."""
    if element.VR == "SQ":
        return DataElement(element.tag, "SQ", [Dataset()])
    return DataElement(element.tag, element.VR, element.value and _DUMMIES.get(element.VR, _DUMMY_BYTES))


def replaced(element: DataElement, change: Callable[[str], str]) -> DataElement:
    """Returns an element whose every value is changed; empty ones stay empty."""
    value = element.value
    if isinstance(value, MultiValue):
        changed: Any = [change(str(one)) if one else "" for one in value]
    else:
        changed = change(str(value)) if value else value
    return DataElement(element.tag, element.VR, changed)


def shift_dates(element: DataElement, days: int) -> DataElement | None:
    """Moves the dates of a DA or DT element by whole days; the time of day stays, the offset from UTC goes.

    Args:
        element: Of VR DA, DT or TM; times are only checked.
        days: Negative for earlier.

    Returns:
        `None` if a value is no whole date, date and time, or time: nothing is known of it then.
    """

    def shifted_date(text: str) -> str:
        parts = _DATE.fullmatch(text.strip().replace(".", ""))  # old files write yyyy.mm.dd
        if parts is None:
            raise ValueError
        return (date(*map(int, parts.groups())) + timedelta(days)).isoformat().replace("-", "")

    def shifted_date_time(text: str) -> str:
        parts = _DATE_TIME.fullmatch(text.strip())
        if parts is None:
            raise ValueError
        return shifted_date(parts[1]) + parts[2]

    move = {"DA": shifted_date, "DT": shifted_date_time, "TM": _whole_time}[element.VR]
    try:
        return replaced(element, move)
    except (ValueError, OverflowError):
        return None


def _whole_time(text: str) -> str:
    if not _TIME.fullmatch(text.strip()):
        raise ValueError
    return text.strip()
