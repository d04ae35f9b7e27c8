"""Sites that share moments and no image: exact merges, one judge, whole files, enough images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from torch import nn

from arra_med.cli import main
from arra_med.corpus.study_set import StudySet
from arra_med.encoders.base import EncoderFeatures, FrozenEncoder, Preprocessing, features_from_map
from arra_med.errors import EvaluationError, StudySetError
from arra_med.evaluate.features import judged_features
from arra_med.evaluate.frechet import (
    FeatureProjection,
    frechet_distance,
    frechet_distance_of_moments,
    projected_frechet_distance,
)
from arra_med.evaluate.image_folder import read_view_folder
from arra_med.evaluate.moments import Moments
from arra_med.evaluate.site_export import fewest_images, site_moments, study_views
from arra_med.evaluate.site_moments import (
    SiteMoments,
    merged_sites,
    read_site_moments,
    site_distance,
    write_site_moments,
)
from arra_med.imaging.view import CanonicalView
from tests.corpus.tiny_studies import write_study_set

WIDTH = 6
SPEC = CanonicalView(modality="cxr", size_px=16)


class TinyJudge(FrozenEncoder):
    """One convolution with fixed random weights."""

    def __init__(self, seed: int = 0, size_px: int = 16) -> None:
        torch.manual_seed(seed)
        pixels = Preprocessing((size_px, size_px), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
        super().__init__("tiny-judge", nn.Conv2d(3, WIDTH, 4, 4), pixels)

    def encode_pixels(self, pixels: torch.Tensor) -> EncoderFeatures:
        return features_from_map(torch.tanh(self.network(pixels)))


JUDGE = TinyJudge()


def views(num: int, seed: int = 0, level: int = 256) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, level, (num, 1, 16, 16), dtype=np.uint8))


def site(num: int, seed: int = 0, level: int = 256, **settings: Any) -> SiteMoments:
    return site_moments(views(num, seed, level), SPEC, settings.pop("judge", JUDGE), **settings)


def test_merged_sites_are_the_pooled_images() -> None:
    whole = views(333)
    parts = [site_moments(part, SPEC, JUDGE) for part in (whole[:101], whole[101:202], whole[202:])]
    merged = merged_sites(parts)
    features = judged_features(JUDGE, np.stack(whole)).astype(np.float64)
    assert merged.info.num_images == 333
    assert np.abs(merged.moments.mean - features.mean(axis=0)).max() < 1e-10
    assert np.abs(merged.moments.covariance - np.cov(features, rowvar=False)).max() < 1e-10


def test_a_distance_of_moments_is_the_distance_of_features() -> None:
    real, generated = judged_features(JUDGE, np.stack(views(150))), judged_features(JUDGE, np.stack(views(150, 1, 200)))
    found = site_distance(site(150), site(150, 1, 200, generated=True))
    assert found.value == pytest.approx(frechet_distance(real, generated), rel=1e-9)
    assert (found.num_dims, found.projected, found.generated) == (WIDTH, False, (False, True))


def test_a_projection_of_moments_is_the_moments_of_projected_features() -> None:
    train, values = (np.random.default_rng(seed).normal(size=(200, 9)) * np.arange(1, 10) for seed in (0, 1))
    by_features, by_moments = FeatureProjection.fit(train, 4), FeatureProjection.of_moments(Moments.of(train), 4)
    signs = np.sign((by_features.components * by_moments.components).sum(axis=1))
    np.testing.assert_allclose(by_moments.components, by_features.components * signs[:, None], atol=1e-10)
    assert by_moments.explained_share == pytest.approx(by_features.explained_share)
    moments, expected = by_moments.apply_to_moments(Moments.of(values)), Moments.of(by_moments.apply(values))
    np.testing.assert_allclose(moments.mean, expected.mean, atol=1e-11)
    np.testing.assert_allclose(moments.covariance, expected.covariance, atol=1e-11)
    flat = FeatureProjection.of_moments(Moments.of(train[:4]), 8)
    assert flat.num_dims == 3  # four images span three directions
    with pytest.raises(EvaluationError, match="all 5 training features are equal"):
        FeatureProjection.of_moments(Moments.of(np.ones((5, 3))))
    with pytest.raises(EvaluationError, match="fitted to features of width 9, the given ones have width 3"):
        by_moments.apply_to_moments(Moments.of(values[:, :3]))


def test_projecting_before_the_export_and_after_it_give_one_distance() -> None:
    training = site(300, 9)
    late = site_distance(site(150), site(150, 1, 200), training=training)
    early = site_distance(site(150, training=training), site(150, 1, 200, training=training))
    projection = FeatureProjection.fit(judged_features(JUDGE, np.stack(views(300, 9))))
    real, generated = judged_features(JUDGE, np.stack(views(150))), judged_features(JUDGE, np.stack(views(150, 1, 200)))
    assert late.projected
    assert early.projected
    assert late.value == pytest.approx(projected_frechet_distance(projection, real, generated), rel=1e-6)
    assert early.value == pytest.approx(late.value, rel=1e-6)


def test_few_images_can_be_recognised_and_are_not_exported() -> None:
    # With fewer images than dimensions the covariance's span tells members from others without fail.
    values = np.random.default_rng(0).normal(size=(40, 50))
    moments = Moments.of(values[:20])
    outside = np.linalg.svd(moments.covariance)[0][:, 19:]
    distance = np.linalg.norm((values - moments.mean) @ outside, axis=1)
    assert distance[:20].max() < 1e-9 < 1 < distance[20:].min()
    assert (fewest_images(6), fewest_images(64), fewest_images(1280)) == (100, 320, 6400)
    with pytest.raises(EvaluationError, match="99 different images and moments of 6 dimensions need 100 before"):
        site(99)
    with pytest.raises(EvaluationError, match="the set has 50 different images"):
        site_moments(views(50) * 4, SPEC, JUDGE)
    assert site(99, public=True).info.num_images == 99


def test_fewer_directions_are_the_first_ones() -> None:
    training = site(300, 9)
    three, all_six = site(120, training=training, num_dims=3), site(120, training=training)
    np.testing.assert_allclose(three.moments.mean, all_six.moments.mean[:3])
    np.testing.assert_allclose(three.moments.covariance, all_six.moments.covariance[:3, :3])
    late = site_distance(site(120), site(120, 1, 200), training=training, num_dims=3)
    assert late.num_dims == 3
    assert late.value == pytest.approx(
        site_distance(three, site(120, 1, 200, training=training, num_dims=3)).value, rel=1e-6
    )
    with pytest.raises(EvaluationError, match="differ in projection"):
        merged_sites([three, site(130, 1, training=training)])


def test_a_file_holds_the_moments_and_nothing_of_single_images(tmp_path: Path) -> None:
    path, training = tmp_path / "site.safetensors", site(300, 9)
    written = site(120, training=training)
    write_site_moments(written, path)
    read = read_site_moments(path)
    assert read.info == written.info
    assert read.content_sha256 == written.content_sha256
    assert set(load_file(path)) == {"mean", "covariance"}
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    told = json.loads(header["__metadata__"]["arra_med"])
    assert set(header["__metadata__"]) == {"arra_med"}
    assert set(told) == {
        *("format_version", "num_images", "judge", "judge_sha256", "preprocessing_sha256", "feature", "spec"),
        *("generated", "projection", "versions"),
    }
    assert told["judge_sha256"] == JUDGE.fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"judge": TinyJudge(seed=1)}, "file 1 and file 2 differ in judge_sha256: tiny-judge .* with the same weights"),
        ({"judge": TinyJudge(size_px=32)}, "differ in preprocessing_sha256: .* the same preprocessing"),
        ({"generated": True}, "some of the files are of real images and some of generated ones"),
        ({"training": site(300, 9)}, "differ in projection: .* with the same --projection, or all without"),
        ({"seed": 0}, "files 1 and 2 hold the same moments: give each site once"),
    ],
)
def test_what_does_not_fit_is_not_merged(settings: dict[str, Any], message: str) -> None:
    other = site(120, **{"seed": 1, **settings})
    with pytest.raises(EvaluationError, match=message):
        merged_sites([site(120), other])


def test_what_does_not_fit_is_not_compared() -> None:
    with pytest.raises(EvaluationError, match="hold 120 and 121 images, and this distance depends on their number"):
        site_distance(site(120), site(121, 1))
    assert site_distance(site(120), site(121, 1), allow_unequal=True).num_images == (120, 121)
    with pytest.raises(EvaluationError, match="projection comes from one of the compared sets"):
        site_distance(site(120), site(120, 1), training=site(120))
    with pytest.raises(EvaluationError, match="these are of generated images"):
        site_distance(site(120), site(120, 1), training=site(130, 2, generated=True))
    with pytest.raises(EvaluationError, match="needs at least two sites"):
        merged_sites([site(120)])


def damaged(path: Path, tensors: dict[str, np.ndarray], **changes: Any) -> None:
    write_site_moments(site(120), path)
    told = {**read_site_moments(path).info.model_dump(mode="json"), **changes}
    save_file({**load_file(path), **tensors}, path, metadata={"arra_med": json.dumps(told)})


@pytest.mark.parametrize(
    ("tensors", "changes", "message"),
    [
        ({"covariance": -np.eye(WIDTH)}, {}, "not positive semidefinite"),
        ({"covariance": np.triu(np.ones((WIDTH, WIDTH)))}, {}, "not symmetric"),
        ({"mean": np.full(WIDTH, np.nan)}, {}, "NaN or infinity"),
        ({"mean": np.zeros(3)}, {}, r"mean of shape \(3,\)"),
        ({"mean": np.zeros(WIDTH, np.float32)}, {}, "float64 and nothing else"),
        ({"ids": np.zeros(3)}, {}, "float64 and nothing else"),
        ({}, {"format_version": 7}, "format version 7, this program reads 1"),
        ({}, {"feature": "patches", "hospital": "x"}, "its description is not valid at feature, hospital"),
        ({}, {"num_images": 1}, "moments come from 1 images"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, tensors: dict[str, np.ndarray], changes: dict[str, Any], message: str
) -> None:
    damaged(tmp_path / "site.safetensors", tensors, **changes)
    with pytest.raises(EvaluationError, match=f"site.safetensors: .*{message}"):
        read_site_moments(tmp_path / "site.safetensors")


def test_a_cut_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.safetensors"
    with pytest.raises(EvaluationError, match="is not there; give a file that `arra-med moments export` wrote"):
        read_site_moments(path)
    write_site_moments(site(120), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(EvaluationError, match="is damaged or no file of moments"):
        read_site_moments(path)
    save_file({"mean": np.zeros(3)}, path)
    with pytest.raises(EvaluationError, match="is damaged or no file of moments"):
        read_site_moments(path)


def write_images(folder: Path, num: int = 3, side: int = 16) -> None:
    folder.mkdir(exist_ok=True)
    for number, view in enumerate(views(num)):
        Image.fromarray(view[0]).resize((side, side)).save(folder / f"SECRET{side}_{number}.png")


def test_a_folder_is_read_as_it_is(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "SECRET16_1.txt").write_text("Effusion.")
    found = read_view_folder(tmp_path, "cxr")
    assert found.spec == SPEC
    np.testing.assert_array_equal(found.views, views(3))
    assert found.reports == ["", "Effusion.", ""]


def test_folders_with_mixed_sizes_or_corrupt_images_are_refused_without_a_name(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="holds 0 PNG or JPEG images and at least 1 are needed"):
        read_view_folder(tmp_path, "cxr")
    with pytest.raises(EvaluationError, match="is no folder"):
        read_view_folder(tmp_path / "nowhere", "cxr")
    write_images(tmp_path / "mixed")
    write_images(tmp_path / "mixed", 2, side=24)
    with pytest.raises(EvaluationError, match="squares of one size are required, found 3 of 16 x 16, 2 of 24 x 24"):
        read_view_folder(tmp_path / "mixed", "cxr")
    write_images(tmp_path / "tiny", side=8)
    with pytest.raises(EvaluationError, match="images of 8 px are no canonical views"):
        read_view_folder(tmp_path / "tiny", "cxr")
    write_images(tmp_path / "broken")
    broken = tmp_path / "broken" / "SECRET16_1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(EvaluationError, match="1 of 3 images cannot be read .* the files number 2: make") as caught:
        read_view_folder(tmp_path / "broken", "cxr")
    assert "SECRET" not in str(caught.value)


def test_views_of_a_study_set_are_those_of_the_split_and_source(tmp_path: Path) -> None:
    write_study_set(tmp_path)
    studies = StudySet.open(tmp_path)
    assert len(study_views(studies)) == 6
    np.testing.assert_array_equal(study_views(studies, "test", "kermany_pneumonia")[0], studies.view(5))
    with pytest.raises(StudySetError, match="no test images of source nih_cxr14: choose another split or source"):
        study_views(studies, "test", "nih_cxr14")


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["moments", *words])
    return int(ended.value.code or 0)


def test_commands_from_folders_to_a_distance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("arra_med.encoders.load_encoder", lambda name: JUDGE)
    files = {name: str(tmp_path / f"{name}.safetensors") for name in ("a", "b", "all", "drawn")}
    for seed, name in enumerate(("a", "b", "drawn")):
        num, synthetic = (200, ["--generated"]) if name == "drawn" else (100, [])
        folder = tmp_path / name
        folder.mkdir()
        for number, view in enumerate(views(num, seed)):
            Image.fromarray(view[0]).save(folder / f"{number}.png")
        exported = command("export", "--images", str(folder), "--judge", "tiny", "--out", files[name], *synthetic)
        assert exported == 0
    assert command("merge", files["a"], files["b"], "--out", files["all"]) == 0
    assert command("distance", files["all"], files["drawn"], "--json", str(tmp_path / "d.json")) == 0
    real = Moments.of(judged_features(JUDGE, np.stack(views(100, 0) + views(100, 1))))
    expected = frechet_distance_of_moments(real, Moments.of(judged_features(JUDGE, np.stack(views(200, 2)))))
    assert json.loads((tmp_path / "d.json").read_text())["value"] == pytest.approx(expected)
    assert f"{expected:.4f}: 200 real against 200 generated images" in capsys.readouterr().out
    assert command("export", "--judge", "tiny", "--out", files["a"]) == 2
    assert "--studies STUDIES or --images FOLDER" in capsys.readouterr().err
