"""Lookup tables and windows as headers write them, by hand and against pydicom."""

import io

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRBigEndian

from arra_med.errors import ImageError
from arra_med.imaging.lut import Window, num_alternatives, read_lookup_table, read_window


def _header(descriptor: list[int], data: list[int] | bytes, vr: str = "US") -> Dataset:
    item = Dataset()
    item.LUTDescriptor = descriptor
    item["LUTDescriptor"].VR = vr
    item.LUTData = data
    item["LUTData"].VR = "OW" if isinstance(data, bytes) else "US"
    header = Dataset()
    header.VOILUTSequence = [item]
    return header


def _look_up(header: Dataset, *values: float, signed: bool = False) -> list[int]:
    table = read_lookup_table(header, "VOILUTSequence", signed_input=signed)
    assert table is not None
    return table.look_up(np.array(values)).tolist()


def test_values_outside_get_the_first_and_the_last_entry():
    assert _look_up(_header([3, 10, 12], [5, 7, 4000]), -50, 9, 10, 11, 12, 13, 9000) == [5, 5, 5, 7, 4000, 4000, 4000]


def test_values_between_integers_are_rounded():
    assert _look_up(_header([3, 0, 12], [5, 7, 9]), 0.4, 0.6, 1.4) == [5, 7, 7]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("as_words", [False, True])
def test_entries_of_eight_bits_may_be_packed_two_in_a_word(packed, as_words):
    entries = np.arange(1, 401) % 251  # more than pydicom's index of 8 bits reaches
    packed_words = entries.astype(np.uint8).view("<u2")
    words = packed_words if packed else entries.astype("<u2")
    header = _header([400, 0, 8], words.tobytes() if as_words else words.tolist())
    assert _look_up(header, 0, 1, 300, 399) == [1, 2, 301 % 251, 400 % 251]


def test_a_full_table_has_no_entries_by_its_descriptor():
    assert _look_up(_header([0, 0, 16], np.arange(65536, dtype="<u2").tobytes()), 0, 40_000, 65_535) == [0, 40_000, 65_535]  # fmt: skip


def test_a_negative_first_value_may_be_written_as_an_unsigned_one():
    header = _header([3, 2**16 - 100, 12], [1, 2, 3])
    assert _look_up(header, -101, -99, -98, signed=True) == [1, 2, 3]
    assert _look_up(_header([3, -100, 12], [1, 2, 3], vr="SS"), -101, -99, -98, signed=True) == [1, 2, 3]


def test_words_of_a_big_endian_file_are_read_in_its_order():
    header = _header([3, 0, 16], np.array([1, 256, 4000], dtype=">u2").tobytes())
    stream = io.BytesIO()
    header.save_as(stream, implicit_vr=False, little_endian=False)
    header.file_meta = pydicom.dataset.FileMetaDataset()
    read = pydicom.filereader.read_dataset(io.BytesIO(stream.getvalue()), False, False)
    read = pydicom.FileDataset("", read, is_implicit_VR=False, is_little_endian=False)
    assert ExplicitVRBigEndian.is_little_endian is False
    assert _look_up(read, 0, 1, 2) == [1, 256, 4000]


@pytest.mark.parametrize(
    ("descriptor", "message"),
    [([4, 0, 12], "found a lookup table of 3 entries of 12 bits, 4 of 8 to 16 bits"), ([3, 0, 7], "entries of 7 bits")],
)
def test_a_table_that_contradicts_its_descriptor_is_refused(descriptor, message):
    with pytest.raises(ImageError, match=message) as caught:
        read_lookup_table(_header(descriptor, [1, 2, 3]), "VOILUTSequence", signed_input=False)
    assert caught.value.reason == "decode_failed"


def test_a_table_without_entries_counts_as_none():
    header = _header([3, 0, 12], [1, 2, 3])
    del header.VOILUTSequence[0].LUTData
    assert read_lookup_table(header, "VOILUTSequence", signed_input=False) is None
    assert read_lookup_table(Dataset(), "VOILUTSequence", signed_input=False) is None


def test_window_functions_by_hand():
    values = np.array([8.0, 9.5, 10, 11, 12])
    np.testing.assert_allclose(Window(10, 4, "LINEAR_EXACT").displayed(values), [0, 0.375, 0.5, 0.75, 1])
    np.testing.assert_allclose(Window(10, 5, "LINEAR").displayed(values), [0.125, 0.5, 0.625, 0.875, 1])
    np.testing.assert_allclose(Window(10, 4, "SIGMOID").displayed(values)[[2, 3]], [0.5, 0.7310586])


def test_a_window_of_width_one_is_a_threshold():
    # C.11.2.1.2.1: x <= c - 0.5 is black, all beyond white
    np.testing.assert_array_equal(Window(10, 1, "LINEAR").displayed(np.array([9.0, 9.5, 9.6, 10])), [0, 0, 1, 1])


def test_alternatives_are_counted():
    header = Dataset()
    assert num_alternatives(header, "WindowCenter") == 0
    header.WindowCenter, header.WindowWidth = 5, 10
    assert num_alternatives(header, "WindowCenter") == 1
    header.WindowCenter, header.WindowWidth = [5, 7], [10, 20]
    assert num_alternatives(header, "WindowCenter") == 2
    assert read_window(header) == Window(5, 10, "LINEAR")
