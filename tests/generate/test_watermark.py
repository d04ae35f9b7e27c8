import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from arra_med.cli import main
from arra_med.errors import GenerationError
from arra_med.generate.watermark import (
    THRESHOLD,
    detect_watermark,
    embed_watermark,
    false_alarm_bound,
    watermark_statistic,
)


def scene(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth clouds with some grain, as natural as a test needs."""
    rng = np.random.default_rng(seed)
    clouds = sum(gaussian_filter(rng.normal(size=shape[:2]), width) * width for width in (1, 3, 9, 27))
    gray = 128 + 60 * (clouds - clouds.mean()) / np.abs(clouds).max()
    picture = gray if len(shape) == 2 else gray[..., None] * np.array([1.0, 0.8, 0.6])
    return np.clip(picture, 0, 255).astype(np.uint8)


def jpeg(picture: np.ndarray, quality: int = 80) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def resized(picture: np.ndarray, method: Image.Resampling) -> np.ndarray:
    height, width = (round(0.75 * side) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), method))


@pytest.mark.parametrize("shape", [(128, 128), (128, 128, 3), (160, 224), (512, 512, 3)])
def test_the_mark_is_faint_and_survives_jpeg_and_resizing_in_either_order(shape: tuple[int, ...]):
    picture = scene(1, shape)
    marked = embed_watermark(picture)
    assert marked is not None
    assert (marked.shape, marked.dtype) == (picture.shape, np.uint8)
    assert np.mean((marked.astype(float) - picture) ** 2) < 255**2 / 10**4  # 40 dB
    assert watermark_statistic(picture) < THRESHOLD
    for method in (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS):
        assert watermark_statistic(jpeg(resized(marked, method))) >= THRESHOLD
        assert watermark_statistic(resized(jpeg(marked), method)) >= THRESHOLD
    assert watermark_statistic(0.7 * marked + 20) >= THRESHOLD  # another window


def test_without_the_mark_the_statistic_is_standard_normal():
    found = np.array([watermark_statistic(scene(seed, (96, 96))) for seed in range(400)])
    assert abs(found.mean()) < 4 / 20
    assert 0.8 < found.std() < 1.2
    assert found.max() < THRESHOLD


def test_the_bound_is_that_of_the_theory():
    assert false_alarm_bound(THRESHOLD) == pytest.approx(1.26e-5, rel=0.01)
    assert false_alarm_bound(-3.0) == 1


def test_what_cannot_carry_it_stays_without():
    assert embed_watermark(scene(0, (95, 200))) is None
    assert watermark_statistic(np.zeros((128, 128))) == 0


def test_marking_gives_the_same_pixels_each_time():
    picture = scene(2, (128, 128))
    np.testing.assert_array_equal(embed_watermark(picture), embed_watermark(picture))


def test_the_command_tells_which_files_carry_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    picture = scene(3, (128, 128, 3))
    marked = embed_watermark(picture)
    assert marked is not None
    Image.fromarray(picture).save(tmp_path / "plain.png")
    Image.fromarray(marked).save(tmp_path / "marked.jpg", quality=80)
    assert detect(tmp_path / "marked.jpg") == 0
    assert "marked.jpg: watermark (statistic" in capsys.readouterr().out
    assert detect(tmp_path / "marked.jpg", tmp_path / "plain.png") == 1
    assert "plain.png: no watermark (statistic" in capsys.readouterr().out


def detect(*files: Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["watermark", "detect", *map(str, files)])
    return int(stop.value.code or 0)


def test_a_file_that_is_no_image_and_one_that_is_too_small_are_one_sentence(tmp_path: Path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(GenerationError, match="cannot be searched for a watermark"):
        detect_watermark(tmp_path / "a.png")
    Image.fromarray(scene(0, (71, 90))).save(tmp_path / "b.png")
    with pytest.raises(GenerationError, match="is 90 x 71 px, a watermark can be found from 72 px on"):
        detect_watermark(tmp_path / "b.png")
