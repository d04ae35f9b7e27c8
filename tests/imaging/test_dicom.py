"""DICOM files: what is refused, with which reason, and that nothing of a patient stands in any message."""

import io
import logging
import random
import warnings
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import (
    MPEG2MPML,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    OphthalmicPhotography8BitImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from arra_med.errors import ImageError
from arra_med.imaging import dicom
from arra_med.imaging.dicom import decode_dicom, decode_dicom_bytes, looks_like_dicom
from arra_med.imaging.reasons import REASONS
from arra_med.imaging.view import CanonicalView, canonical_view, to_uint8

WHOLE_RANGE = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}
BUNDLED = [
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_16.dcm",
    "JPGExtended.dcm",
    "MR_small.dcm",
    "MR_truncated.dcm",
    "SC_rgb_dcmtk_+eb+cy+np.dcm",
    "SC_rgb_jpeg.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "badVR.dcm",
    "examples_palette.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
    "meta_missing_tsyntax.dcm",
    "no_meta.dcm",
    "reportsi.dcm",
    "rtdose.dcm",
    "rtplan.dcm",
    "waveform_ecg.dcm",
]


def _shown(data: bytes, modality: str) -> np.ndarray:
    return decode_dicom_bytes(data, modality).pixels


def _refused(data: bytes, modality: str = "cxr") -> ImageError:
    with pytest.raises(ImageError) as caught:
        _shown(data, modality)
    assert caught.value.reason in REASONS
    return caught.value


def _shown_or_reason(path_or_data, modality: str = "cxr") -> np.ndarray | str:
    """The pixels, checked to be a picture, or the reason why there are none; any other exception fails the test."""
    decode = _shown if isinstance(path_or_data, bytes) else decode_dicom
    try:
        shown = decode(path_or_data, modality)
    except ImageError as error:
        return error.reason
    assert shown.dtype == np.float32
    assert shown.ndim == (2 if modality == "cxr" else 3)
    assert np.isfinite(shown).all()
    assert shown.min() >= 0
    assert shown.max() <= 1
    return shown


def test_pixels_keep_their_sides(make_dicom, quadrants):
    shown = _shown(make_dicom(quadrants, **WHOLE_RANGE), "cxr")
    assert shown.shape == (64, 48)
    assert shown.dtype == np.float32
    corners = [shown[0, 0], shown[0, -1], shown[-1, 0], shown[-1, -1]]
    assert corners == pytest.approx([0, 1000 / 4095, 2500 / 4095, 1])


def test_decode_dicom_reads_a_path(make_dicom, quadrants, tmp_path):
    data = make_dicom(quadrants, **WHOLE_RANGE)
    (tmp_path / "a.dcm").write_bytes(data)
    np.testing.assert_array_equal(decode_dicom(tmp_path / "a.dcm"), _shown(data, "cxr"))
    with pytest.raises(ImageError, match="not there or cannot be opened"):
        decode_dicom(tmp_path / "b.dcm")


@pytest.mark.parametrize("window", [{"WindowCenter": 1500, "WindowWidth": 2500}, {}])
def test_monochrome1_and_monochrome2_twins_give_one_view_byte_for_byte(make_dicom, window):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 4096, (70, 64)).astype(np.uint16)
    twin_window = {**window, "WindowCenter": 4096 - window["WindowCenter"]} if window else {}
    plain = make_dicom(pixels, BitsStored=12, **window)
    twin = make_dicom(4095 - pixels, BitsStored=12, PhotometricInterpretation="MONOCHROME1", **twin_window)
    spec = CanonicalView(modality="cxr", size_px=32)
    views = [to_uint8(canonical_view(_shown(data, "cxr"), spec)).tobytes() for data in (plain, twin)]
    assert views[0] == views[1]


def test_unused_bits_of_twelve_in_sixteen_do_not_count(make_dicom, quadrants):
    overlaid = quadrants | np.uint16(0x8000)
    plain = _shown(make_dicom(quadrants, **WHOLE_RANGE), "cxr")
    np.testing.assert_array_equal(_shown(make_dicom(overlaid, **WHOLE_RANGE), "cxr"), plain)


def test_signed_pixels(make_dicom):
    pixels = np.array([[-1000, -500], [0, 500]], dtype=np.int16)
    elements = {"WindowCenter": -500, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    shown = _shown(make_dicom(pixels, **elements), "cxr")
    assert shown.ravel().tolist() == pytest.approx([0, 0.5, 1, 1])


@pytest.mark.parametrize("implicit", [False, True])
def test_a_file_without_preamble_and_meta_information_is_read(make_header, quadrants, implicit):
    header = make_header(quadrants, **WHOLE_RANGE)
    del header.file_meta
    stream = io.BytesIO()
    header.save_as(stream, implicit_vr=implicit, little_endian=True)
    assert stream.getvalue()[128:132] != b"DICM"
    assert looks_like_dicom(stream.getvalue())
    assert _shown(stream.getvalue(), "cxr")[-1, -1] == 1


def test_colour_becomes_luma_for_an_xray_and_stays_for_a_fundus(make_dicom):
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:, :2] = [255, 0, 0]
    pixels[:, 2:4] = [0, 255, 0]
    data = make_dicom(pixels, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    np.testing.assert_allclose(_shown(data, "cxr")[0], [0.299, 0.299, 0.587, 0.587, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(_shown(data, "fundus"), pixels / np.float32(255))


def test_grayscale_is_repeated_for_a_fundus(make_dicom):
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    data = make_dicom(pixels, SOPClassUID=OphthalmicPhotography8BitImageStorage, Modality="OP")
    shown = _shown(data, "fundus")
    assert shown.shape == (4, 6, 3)
    np.testing.assert_allclose(shown[..., 2], pixels / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("elements", "modality", "reason", "message"),
    [
        ({"SOPClassUID": CTImageStorage}, "cxr", "not_a_projection_xray", "found CT Image Storage"),
        ({"SOPClassUID": UID("1.2.3.4")}, "cxr", "not_a_projection_xray", "an unknown or private storage class"),
        ({"SOPClassUID": None, "Modality": "CT"}, "cxr", "not_a_projection_xray", "found modality CT"),
        ({"SOPClassUID": None, "Modality": "JANE"}, "cxr", "not_a_projection_xray", "modality of another kind"),
        ({}, "fundus", "not_a_fundus_photograph", "found Computed Radiography Image Storage"),
        ({"NumberOfFrames": 3}, "cxr", "multi_frame", "found 3 frames"),
        ({"PixelData": None}, "cxr", "no_pixels", "holds no image"),
        ({"Rows": 40000, "Columns": 40000}, "cxr", "too_large", "found 40000 x 40000 pixels"),
        ({"Rows": 65}, "cxr", "truncated", "found 6,144 bytes of pixel data, 6,240 are required"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "cxr", "decode_failed", "found 32 of 32 bits per pixel"),
        ({"Columns": None, "BitsStored": None}, "cxr", "decode_failed", "the header lacks Columns, BitsStored"),
        ({"PhotometricInterpretation": "JANE"}, "cxr", "decode_failed", "photometric interpretation that does not fit"),
    ],
)  # fmt: skip
def test_refusals(make_dicom, quadrants, elements, modality, reason, message):
    error = _refused(make_dicom(quadrants, **elements), modality)
    assert error.reason == reason
    assert message in str(error)
    assert "JANE" not in str(error)


def test_a_transfer_syntax_that_cannot_be_decoded_is_refused_by_name(make_dicom, quadrants):
    error = _refused(make_dicom(quadrants, compress_to=RLELossless, claim=MPEG2MPML, **WHOLE_RANGE))
    assert error.reason == "unsupported_transfer_syntax"
    assert "found transfer syntax MPEG2 Main Profile / Main Level" in str(error)
    data = make_dicom(quadrants, compress_to=RLELossless, **WHOLE_RANGE)
    private = data.replace(RLELossless.encode(), b"1.2.840.10008.1.2.9".ljust(len(RLELossless), b"\0"))
    assert "an unknown or private one" in str(_refused(private))


def test_a_file_that_inflates_without_end_is_refused_before_it_is_inflated(make_dicom, quadrants, monkeypatch):
    plain = make_dicom(quadrants, **WHOLE_RANGE)
    start = 144 + int.from_bytes(plain[140:144], "little")
    meta = pydicom.dcmread(io.BytesIO(plain)).file_meta
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stream = io.BytesIO()
    stream.write(b"\0" * 128 + b"DICM")
    pydicom.filewriter.write_file_meta_info(stream, meta)
    data = stream.getvalue() + deflated.compress(plain[start:]) + deflated.flush()
    assert _shown(data, "cxr").shape == quadrants.shape
    assert _refused(data[:-20]).reason == "truncated"
    monkeypatch.setattr(dicom, "MAX_INFLATED_BYTES", 1000)
    error = _refused(data)
    assert error.reason == "too_large"
    assert "inflates to more than 1,000 bytes" in str(error)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_a_truncated_file_is_said_to_be_truncated(make_dicom, syntax):
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 48)).astype(np.uint16)
    data = make_dicom(pixels, compress_to=syntax, **WHOLE_RANGE)
    for kept in (0.5, 0.8, 0.97):
        assert _refused(data[: int(len(data) * kept)]).reason == "truncated"


def test_damaged_files_raise_nothing_but_image_errors(make_dicom):
    rng = random.Random(0)
    pixels = np.random.default_rng(0).integers(0, 4096, (36, 40)).astype(np.uint16)
    window = {**WHOLE_RANGE, "PixelPaddingValue": 0, "RescaleSlope": 1, "RescaleIntercept": 0}
    files = [make_dicom(pixels, compress_to=syntax, **window) for syntax in (None, RLELossless, JPEG2000Lossless)]
    num_read = 0
    for _ in range(400):
        data = bytearray(rng.choice(files))
        for _ in range(rng.choice((1, 3, 10))):
            data[rng.randrange(132, len(data))] = rng.randrange(256)
        outcome = _shown_or_reason(bytes(data))
        assert isinstance(outcome, np.ndarray) or outcome in REASONS
        num_read += isinstance(outcome, np.ndarray)
    assert num_read > 20


def test_nothing_of_the_header_is_logged_or_warned_of(make_header, quadrants, caplog):
    header = make_header(quadrants, **WHOLE_RANGE)
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    data = stream.getvalue().replace(b"DOE^JANE", b"DOE\xffJANE").replace(b"DSDS", b"DS")
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        _shown(data, "cxr")
        _refused(data[:-2000])
    assert not caught
    assert "JANE" not in caplog.text
    assert not logging.getLogger("pydicom").isEnabledFor(logging.CRITICAL)


@pytest.mark.parametrize("name", BUNDLED)
def test_files_in_pydicoms_wheel_decode_or_are_refused_with_a_reason(name):
    path = get_testdata_file(name, download=False)
    assert path is not None
    for modality in ("cxr", "fundus"):
        outcome = _shown_or_reason(path, modality)
        assert isinstance(outcome, np.ndarray) or outcome in REASONS


@pytest.mark.parametrize("name", ["SC_rgb_jpeg.dcm", "SC_rgb_rle.dcm", "SC_ybr_full_422_uncompressed.dcm"])
def test_colour_files_equal_pydicoms_rgb(name):
    path = get_testdata_file(name, download=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = pydicom.pixels.pixel_array(pydicom.dcmread(path)) / np.float32(255)
    np.testing.assert_allclose(decode_dicom(path, "fundus"), reference, atol=1e-6)


@pytest.mark.parametrize("data", [b"", b"DICM", b"\x08\x00", b"\x02\x00" + b"\xff" * 40, b"hello, this is a text"])
def test_other_content_does_not_look_like_dicom(data):
    assert not looks_like_dicom(data)


@pytest.mark.real_data
def test_every_real_file_decodes_or_is_refused_with_a_reason(real_data):
    files = sorted((real_data / "dicom").rglob("*.dcm"))
    small = [path for path in files if path.stat().st_size < 1_300_000]
    assert len(small) > 70
    outcomes = {path: _shown_or_reason(path) for path in small}
    refused = {path: outcome for path, outcome in outcomes.items() if isinstance(outcome, str)}
    assert set(refused.values()) <= set(REASONS)
    assert len(outcomes) - len(refused) > 25
    assert all(path.parent.name == "odd_or_malformed" for path, reason in refused.items() if reason == "decode_failed")
    without = {reason for path, reason in refused.items() if path.parent.name == "no_pixels"}
    assert without == {"no_pixels", "truncated"}  # one of them breaks off within its pixel data


@pytest.mark.real_data
@pytest.mark.slow
def test_every_large_real_file_decodes_or_is_refused_with_a_reason(real_data):
    for path in sorted((real_data / "dicom").rglob("*.dcm")):
        if path.stat().st_size >= 1_300_000:
            outcome = _shown_or_reason(path)
            assert isinstance(outcome, np.ndarray) or outcome in REASONS


@pytest.mark.real_data
def test_a_real_film_and_its_faked_inverse_are_complements(real_data):
    plain, fake = (
        decode_dicom(next((real_data / "dicom" / "xray").glob(f"torchxrayvision__{name}*.dcm")))
        for name in ("1.2.276", "Fake_MONOHR1")
    )
    np.testing.assert_allclose(plain + fake, 1, atol=1e-6)
