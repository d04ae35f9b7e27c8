"""Which DICOM objects are read: kinds by name, permissions, and what is only flagged."""

import numpy as np
import pytest

from arra_med.errors import ImageError
from arra_med.imaging.dicom import decode_dicom_bytes
from arra_med.imaging.rules import ReadingRules

WINDOW = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
FLUOROSCOPY = "1.2.840.10008.5.1.4.1.1.12.2"
ENHANCED_FLUOROSCOPY = "1.2.840.10008.5.1.4.1.1.12.2.1"
MAMMOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.2"


def _reason(data: bytes, modality: str = "cxr", **permissions: bool) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_dicom_bytes(data, modality, ReadingRules(**permissions))
    return caught.value


@pytest.mark.parametrize(
    ("storage_class", "modality"),
    [
        ("1.2.840.10008.5.1.4.1.1.1", "RG"),
        ("1.2.840.10008.5.1.4.1.1.7", "RG"),
        (FLUOROSCOPY, "RF"),
        ("1.2.840.10008.5.1.4.1.1.1.1", "DX"),
    ],
)
def test_radiographs_of_every_kind_are_read(make_dicom, quadrants, storage_class, modality):
    data = make_dicom(quadrants, SOPClassUID=storage_class, Modality=modality, **WINDOW)
    assert decode_dicom_bytes(data, "cxr").pixels.shape == quadrants.shape


@pytest.mark.parametrize(
    ("elements", "reason", "message"),
    [
        ({"SOPClassUID": FLUOROSCOPY, "Modality": "RF", "NumberOfFrames": 12}, "multi_frame", "found 12 frames"),
        ({"SOPClassUID": ENHANCED_FLUOROSCOPY, "Modality": "RF"}, "not_a_projection_xray", "found Enhanced XRF Image"),
        ({"SOPClassUID": MAMMOGRAPHY, "Modality": "MG"}, "not_a_projection_xray", "found Digital Mammography X-Ray"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OP"}, "not_a_projection_xray", "found modality OP"),
    ],
)
def test_other_kinds_are_refused_by_name(make_dicom, quadrants, elements, reason, message):
    error = _reason(make_dicom(quadrants, **elements, **WINDOW))
    assert error.reason == reason
    assert message in str(error)


def test_photographs_of_other_things_are_not_read_from_dicom(make_dicom, quadrants):
    error = _reason(make_dicom(quadrants, **WINDOW), modality="photo")
    assert error.reason == "not_an_image"
    assert "a PNG or JPEG file is required" in str(error)


@pytest.mark.parametrize(
    "elements", [{"PresentationIntentType": "FOR PROCESSING"}, {"SOPClassUID": DX_FOR_PROCESSING, "Modality": "DX"}]
)
def test_detector_signal_is_read_only_if_allowed(make_dicom, quadrants, elements):
    data = make_dicom(quadrants, **elements, **WINDOW)
    error = _reason(data, allow_burned_in=True)
    assert error.reason == "for_processing"
    assert "set allow_for_processing" in str(error)
    assert "for_processing" in decode_dicom_bytes(data, "cxr", ReadingRules(allow_for_processing=True)).flags


def test_burned_in_text_is_read_only_if_allowed(make_dicom, quadrants):
    data = make_dicom(quadrants, BurnedInAnnotation="YES", **WINDOW)
    error = _reason(data, allow_for_processing=True)
    assert error.reason == "burned_in_text"
    assert "set allow_burned_in" in str(error)
    assert decode_dicom_bytes(data, "cxr", ReadingRules(allow_burned_in=True)).flags == ("burned_in_declared",)
    assert decode_dicom_bytes(make_dicom(quadrants, BurnedInAnnotation="NO", **WINDOW), "cxr").flags == ()


@pytest.mark.parametrize("group", [0x6000, 0x601E])
def test_overlays_are_flagged_and_not_drawn(make_header, quadrants, group):
    import io

    header = make_header(quadrants, **WINDOW)
    header.add_new((group << 16) | 0x0010, "US", 64)
    header.add_new((group << 16) | 0x0011, "US", 48)
    header.add_new((group << 16) | 0x3000, "OW", b"\xff" * 384)
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    decoded = decode_dicom_bytes(stream.getvalue(), "cxr")
    assert decoded.flags == ("overlay_ignored",)
    np.testing.assert_allclose(decoded.pixels, quadrants / 4095, atol=1e-6)
