"""What E2VID and FireNet are given: the voxel grid, normalised over the cells that events touched, and padded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.e2vid.prepare import Preparer, margins, padded
from rtpipe.errors import InputError
from tests.engines.e2vid_golden import cases, grid, resolution

CHAIN = ("e2vid-*", "firenet-[ab]")


def slow(voxel):
    """The normalisation as it is defined."""
    touched = voxel[voxel != 0].astype(np.float64)
    out = np.zeros(voxel.shape)
    if touched.size:
        out[voxel != 0] = (touched - touched.mean()) / max(touched.std(), 1e-6)
    return out


def test_grids_and_their_normalisation_are_the_golden_ones(shared):
    for name, golden in cases(shared, "rep-e2vid-*").items():
        voxel = grid(golden)
        made = Preparer(resolution(golden), "legacy", "none").prepare(voxel)
        assert np.abs(voxel - golden["out_vox64"]).max() <= 2e-6, name
        assert made.shape == (1, *voxel.shape)
        assert np.abs(made[0] - golden["out_norm64"]).max() <= 5e-6, name


@pytest.mark.parametrize("pattern", CHAIN)
def test_the_golden_chains_are_met_in_their_grids_and_in_what_is_made_of_them(shared, pattern):
    for name, golden in cases(shared, pattern).items():
        padding = "none" if name.startswith("firenet") else "reflect"
        preparer = Preparer(resolution(golden), "legacy", padding)
        (top, _), (left, _) = (margins(side, padding) for side in resolution(golden)[::-1])
        for step in range(3):
            voxel = golden[f"mid_vox{step}"]
            assert np.abs(grid(golden, step) - voxel).max() <= 2e-6
            made = preparer.prepare(voxel)[0]
            inner = made[:, top : top + voxel.shape[1], left : left + voxel.shape[2]]
            assert np.abs(inner - golden[f"mid_voxnorm{step}"]).max() <= 5e-6
        if "mid_padded2" in golden:
            assert np.abs(made - golden["mid_padded2"][0]).max() <= 5e-6


@given(
    width=st.integers(8, 30), height=st.integers(8, 30), seed=st.integers(0, 99),
    legacy=st.booleans(), padding=st.sampled_from(["reflect", "zeros", "none"]),
)  # fmt: skip
def test_any_size_is_normalised_and_padded_as_defined(width, height, seed, legacy, padding):
    random = np.random.default_rng(seed)
    preparer = Preparer((width, height), "legacy" if legacy else "none", padding)
    sides = [(0, 0), *(margins(side, padding) for side in (height, width))]
    for density in (0.5, 0.0, 0.01):
        voxel = (random.normal(0.3, 2, (5, height, width)) * (random.random((5, height, width)) < density)).astype(
            np.float32
        )
        wanted = np.pad(slow(voxel) if legacy else voxel, sides, "reflect" if padding == "reflect" else "constant")
        made = preparer.prepare(voxel)
        assert made.shape == (1, 5, *padded((width, height), padding))
        assert made.flags.c_contiguous
        assert np.abs(made[0] - wanted).max() <= 5e-6


def test_a_raw_grid_that_needs_nothing_is_not_copied():
    voxel = np.ones((5, 12, 10), np.float32)
    assert np.shares_memory(Preparer((10, 12), "none", "none").prepare(voxel), voxel)


def test_grids_of_another_kind_and_sensors_too_small_to_reflect_are_refused():
    preparer = Preparer((10, 12), "legacy", "zeros")
    for wrong in (np.ones((5, 10, 12), np.float32), np.ones((5, 12, 10)), np.ones((10, 12, 10), np.float32)):
        with pytest.raises(InputError, match="voxel grid"):
            preparer.prepare(wrong)
    with pytest.raises(InputError, match="too small"):
        Preparer((7, 40), "legacy", "reflect")
