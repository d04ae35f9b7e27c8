"""The perceptual hash against the `imagehash` package, and near-duplicates against a plain double loop."""

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from arra_med.imaging.perceptual_hash import Duplicate, NearDuplicates, perceptual_hash


def _scene(seed: int, channels: int = 1, side: int = 96) -> np.ndarray:
    """A smooth random picture (C, S, S)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (channels, 6, 6), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in coarse])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_the_hash_is_that_of_the_imagehash_package(seed, channels):
    view = _scene(seed, channels)
    image = Image.fromarray(view[0] if channels == 1 else view.transpose(1, 2, 0).copy())
    assert perceptual_hash(view) == int(str(imagehash.phash(image)), 16)


def test_a_rescaled_or_brightened_view_keeps_its_hash_and_another_does_not():
    view = _scene(1)
    smaller = np.asarray(Image.fromarray(view[0]).resize((64, 64), Image.Resampling.LANCZOS))[None]
    brighter = (view // 2 + 90).astype(np.uint8)
    for same in (smaller, brighter):
        assert (perceptual_hash(view) ^ perceptual_hash(same)).bit_count() <= 2
    assert (perceptual_hash(view) ^ perceptual_hash(_scene(2))).bit_count() > 12


def test_duplicates_name_the_first_and_a_chain_is_cut_where_it_leaves_it():
    found = NearDuplicates(max_distance=1).add([0b000, 0b11000000, 0b001, 0b011, 0b111])
    # 2 is one bit from 0; 3 is two bits from 0 and only near 2, which is not kept, so it is kept; 4 is near 3.
    assert found == [(2, 0), (4, 3)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    hashes=st.lists(st.integers(0, 255).map(lambda low: low << 56 | low), max_size=60),
    max_distance=st.integers(0, 6),
    cut=st.integers(0, 60),
)
def test_the_outcome_is_that_of_a_double_loop_however_it_is_portioned(hashes, max_distance, cut):
    kept, expected = [], []
    for index, value in enumerate(hashes):
        first = next((k for k in kept if (hashes[k] ^ value).bit_count() <= max_distance), None)
        if first is None:
            kept.append(index)
        else:
            expected.append(Duplicate(index, first))
    finder = NearDuplicates(max_distance)
    assert finder.add(hashes[:cut]) + finder.add(hashes[cut:]) == expected


def test_a_duplicate_is_found_across_blocks():
    hashes = [int(value) for value in np.random.default_rng(0).integers(0, 2**63, 2000, dtype=np.uint64)]
    assert NearDuplicates().add([*hashes, hashes[7] ^ 1, hashes[1900]]) == [(2000, 7), (2001, 1900)]


@pytest.mark.parametrize("distance", [-1, 65])
def test_an_impossible_distance_is_an_error(distance):
    with pytest.raises(ValueError, match="between 0 and 64 bits"):
        NearDuplicates(distance)
