"""Stored values: which bits of a cell count, and every transfer syntax that can be encoded or is at hand."""

import io
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from arra_med.errors import ImageError
from arra_med.imaging.dicom import decode_dicom_bytes
from arra_med.imaging.dicom_pixels import StoredPixels, stored_pixels

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
LOSSLESS = [RLELossless, JPEGLSLossless, JPEG2000Lossless]
needs_dcmtk = pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="DCMTK is not installed")


def _values(header: Dataset) -> np.ndarray:
    stored = stored_pixels(header)
    return stored.values[stored.cells]


def _saved(header: Dataset) -> bytes:
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def _random(bits: int, *, signed: bool = False, shape: tuple[int, int] = (40, 36)) -> np.ndarray:
    low = -(2 ** (bits - 1)) if signed else 0
    values = np.random.default_rng(bits).integers(low, low + 2**bits, shape)
    values[0, :2] = low, low + 2**bits - 1
    return values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def _compressed_by_dcmtk(header: Dataset, folder, *options: str) -> Dataset:
    (folder / "plain.dcm").write_bytes(_saved(header))
    subprocess.run(["dcmcjpeg", "-q", *options, folder / "plain.dcm", folder / "packed.dcm"], check=True)
    return pydicom.dcmread(folder / "packed.dcm")


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_uncompressed_values(make_header, syntax, bits, signed):
    pixels = _random(bits, signed=signed)
    big = syntax == ExplicitVRBigEndian
    data = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    header = make_header(pixels, BitsStored=bits, PixelData=data)
    header.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(_values(_read(_saved(header))), pixels)


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_values_compressed_without_loss(make_header, syntax, bits, signed):
    pixels = _random(bits, signed=signed)
    header = make_header(pixels, BitsStored=bits)
    header.compress(syntax)
    np.testing.assert_array_equal(_values(_read(_saved(header))), pixels)


@needs_dcmtk
@pytest.mark.parametrize(
    ("options", "syntax"),
    [
        (("+e1",), JPEGLosslessSV1),
        (("+el", "+sv", "1"), JPEGLossless),
        (("+el", "+sv", "4"), JPEGLossless),
        (("+el", "+sv", "7"), JPEGLossless),
    ],
)
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (10, False), (12, True), (16, False)])
def test_jpeg_lossless_of_dcmtk(make_header, tmp_path, options, syntax, bits, signed):
    pixels = _random(bits, signed=signed)
    header = _compressed_by_dcmtk(make_header(pixels, BitsStored=bits), tmp_path, *options)
    assert header.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(_values(header), pixels)


@needs_dcmtk
@pytest.mark.parametrize("bits", [10, 12])
def test_jpeg_extended_of_twelve_bits_equals_dcmtks_decoder(make_header, tmp_path, bits):
    y, x = np.mgrid[:64, :48]
    pixels = ((x + y) * 2**bits // 112).astype(np.uint16)
    header = _compressed_by_dcmtk(make_header(pixels, BitsStored=bits), tmp_path, "+ee", "+bt")
    assert header.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    subprocess.run(["dcmdjpeg", "-q", tmp_path / "packed.dcm", tmp_path / "unpacked.dcm"], check=True)
    np.testing.assert_array_equal(_values(header), pydicom.dcmread(tmp_path / "unpacked.dcm").pixel_array)
    damaged = header.PixelData[:16] + b"\0" * (len(header.PixelData) - 16)
    header.PixelData = damaged
    with pytest.raises(ImageError, match="damaged"):
        decode_dicom_bytes(_saved(header), "cxr")


def test_jpeg_baseline_equals_pillow(make_header):
    y, x = np.mgrid[:64, :48]
    pixels = (2 * (x + y)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    header = make_header(pixels)
    header.PixelData = encapsulate([stream.getvalue()])
    header.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    np.testing.assert_array_equal(_values(_read(_saved(header))), np.asarray(Image.open(stream)))


def test_near_lossless_jpeg_ls_stays_within_its_error(make_header):
    pixels = _random(12)
    header = make_header(pixels, BitsStored=12)
    header.compress(JPEGLSNearLossless, jls_error=3)
    assert 0 < np.abs(_values(_read(_saved(header))).astype(int) - pixels).max() <= 3


@pytest.mark.parametrize("compress", [False, True])
def test_the_high_bit_says_where_in_a_cell_the_value_lies(make_header, compress):
    values = _random(12)
    header = make_header(values << 4, BitsStored=12)
    if compress:
        header.compress(RLELossless)
    header.HighBit = 15
    np.testing.assert_array_equal(_values(_read(_saved(header))), values)


@pytest.mark.parametrize("high_bit", [None, 5, 16])
def test_an_impossible_high_bit_does_not_count(make_header, high_bit):
    pixels = _random(12)
    header = make_header(pixels, BitsStored=12)
    if high_bit is None:
        del header.HighBit
    else:
        header.HighBit = high_bit
    np.testing.assert_array_equal(_values(_read(_saved(header))), pixels)


def test_unused_bits_of_signed_values_do_not_count(make_header):
    values = _random(12, signed=True)
    cells = (values.view(np.uint16) & 0x0FFF) | 0xA000
    header = make_header(cells.view(np.int16), BitsStored=12)
    np.testing.assert_array_equal(_values(_read(_saved(header))), values)


def test_ten_stored_bits_in_a_jpeg_2000_of_sixteen_keep_their_own_precision(make_header):
    pixels = _random(16)
    header = make_header(pixels, BitsStored=16)
    header.compress(JPEG2000Lossless)
    header.BitsStored, header.HighBit = 10, 9
    with pydicom.config.disable_value_validation():
        np.testing.assert_array_equal(_values(_read(_saved(header))), pixels)


def test_look_up_equals_indexing_for_colours_and_long_rows():
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 65536, (3, 70_000)).astype(np.uint16)
    for table in (rng.random(65536, dtype=np.float32), rng.random((65536, 3), dtype=np.float32)):
        np.testing.assert_array_equal(StoredPixels(cells, np.arange(65536)).look_up(table), table[cells])


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.52", "JPEG Extended (Process 3 and 5)"),
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)"),
        ("1.2.840.10008.1.2.4.94", "JPIP Referenced"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
        ("1.2.840.10008.1.2.1.98", "Encapsulated Uncompressed Explicit VR Little Endian"),
    ],
)
def test_transfer_syntaxes_without_a_decoder_are_refused_by_name(make_dicom, syntax, name):
    data = make_dicom(_random(8), compress_to=RLELossless, claim=UID(syntax))
    with pytest.raises(ImageError) as caught:
        decode_dicom_bytes(data, "cxr")
    assert caught.value.reason == "unsupported_transfer_syntax"
    assert f"found transfer syntax {name}" in str(caught.value)


@pytest.mark.real_data
def test_high_throughput_jpeg_2000(real_data):
    files = sorted((real_data / "dicom" / "codec_matrix").glob("*HTJ2K*"))
    assert len(files) == 2
    decoded = [decode_dicom_bytes(path.read_bytes(), "cxr") for path in files]
    np.testing.assert_allclose(decoded[0].pixels, decoded[1].pixels, atol=0.1)  # the one is lossy, the other not
    lossless = pydicom.dcmread(next(path for path in files if "Lossless" in path.name))
    assert get_frame(lossless.PixelData, 0, number_of_frames=1)[:2] == b"\xff\x4f"
    assert HTJ2KLosslessRPCL.name.startswith("High-Throughput JPEG 2000")
