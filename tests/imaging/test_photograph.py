"""PNG and JPEG files: values, sixteen bits, EXIF, and files which are not whole."""

import io

import numpy as np
import pytest
from PIL import Image

from arra_med.errors import ImageError
from arra_med.imaging import photograph
from arra_med.imaging.photograph import decode_photograph


def _file(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _noise(shape: tuple[int, ...], high: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def _refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode_photograph(data, grayscale=True)
    return caught.value.reason


def test_eight_bit_grayscale_is_divided_by_255():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    shown = decode_photograph(_file(Image.fromarray(pixels)), grayscale=True)
    assert shown.dtype == np.float32
    np.testing.assert_array_equal(shown, pixels / np.float32(255))


def test_grayscale_jpeg_gives_pillows_values():
    data = _file(Image.fromarray(_noise((40, 56))), "JPEG", quality=90)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=np.float32) / 255
    np.testing.assert_array_equal(decode_photograph(data, grayscale=True), expected)


def test_colour_and_luma():
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[:, 2:] = [0, 255, 0]
    data = _file(Image.fromarray(pixels))
    np.testing.assert_array_equal(decode_photograph(data, grayscale=False), pixels / np.float32(255))
    np.testing.assert_allclose(decode_photograph(data, grayscale=True)[0], [0, 0, 0.587, 0.587], atol=0.002)


def test_grayscale_as_rgb_has_three_equal_channels():
    shown = decode_photograph(_file(Image.fromarray(_noise((4, 6)))), grayscale=False)
    assert shown.shape == (4, 6, 3)
    np.testing.assert_array_equal(shown[..., 0], shown[..., 2])


def test_what_is_transparent_is_black():
    pixels = np.full((4, 4, 4), 255, dtype=np.uint8)
    pixels[:, :2, 3] = 0
    np.testing.assert_array_equal(decode_photograph(_file(Image.fromarray(pixels)), grayscale=True)[0], [0, 0, 1, 1])


def test_sixteen_bits_are_divided_by_65535():
    pixels = _noise((32, 32), 65536, np.uint16)
    shown = decode_photograph(_file(Image.fromarray(pixels)), grayscale=True)
    np.testing.assert_allclose(shown, pixels / 65535, atol=1e-6)
    assert decode_photograph(_file(Image.fromarray(pixels)), grayscale=False).shape == (32, 32, 3)


def test_twelve_bits_in_sixteen_get_a_robust_window_instead_of_blackness():
    pixels = np.tile(np.arange(1001, dtype=np.uint16), (8, 1))
    shown = decode_photograph(_file(Image.fromarray(pixels)), grayscale=True)
    np.testing.assert_allclose(shown[0, [5, 104, 500, 995]], [0, 99 / 990, 0.5, 1], atol=1e-6)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_honoured(orientation, turns, kind):
    pixels = np.zeros((16, 32), dtype=np.uint8)
    pixels[:8, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = decode_photograph(_file(Image.fromarray(pixels), kind, exif=exif), grayscale=True)
    np.testing.assert_allclose(shown, np.rot90(pixels, turns) / 255, atol=0.02)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("shape", [(64, 80), (64, 80, 3)])
def test_every_truncation_is_found(kind, shape):
    data = _file(Image.fromarray(_noise(shape)), kind)
    for kept in [len(data) * part // 20 for part in range(4, 20)] + [len(data) - num for num in (1, 2, 5, 9, 12)]:
        if kind == "PNG" and kept >= len(data) - 4:
            continue  # only the end mark's checksum is missing
        assert _refused(data[:kept]) == "truncated", kept


def test_a_half_downloaded_file_filled_with_zeros_is_truncated():
    data = _file(Image.fromarray(_noise((64, 80))), "JPEG")
    assert _refused(data[: len(data) // 2] + b"\0" * (len(data) // 2)) == "truncated"
    progressive = _file(Image.fromarray(_noise((64, 80))), "JPEG", progressive=True)
    assert _refused(progressive[: len(data) // 2] + b"\0" * (len(data) // 2)) == "truncated"


def test_damaged_content_is_refused():
    data = bytearray(_file(Image.fromarray(_noise((64, 80)))))
    data[60:90] = b"\xff" * 30
    assert _refused(bytes(data)) == "decode_failed"
    assert _refused(b"\xff\xd8\xff\xda\xff\xd9") == "decode_failed"


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(photograph, "MAX_PIXELS", 5000)
    with pytest.raises(ImageError, match="found 80 x 64 pixels, at most 5,000 are decoded"):
        decode_photograph(_file(Image.fromarray(_noise((64, 80)))), grayscale=True)


def test_a_decompression_bomb_is_refused():
    data = bytearray(_file(Image.fromarray(_noise((8, 8)))))
    data[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    assert _refused(bytes(data)) == "too_large"
