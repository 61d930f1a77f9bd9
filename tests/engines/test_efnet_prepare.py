"""What EFNet is given and what becomes of what it gives: golden vectors, and slow obvious versions. No network."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engines.efnet.finish import picture, sharp_frame
from engines.efnet.prepare import Inputs, Route, normalise, padded, robust_bounds
from rtpipe.errors import InputError, WorldError
from rtpipe.types import Frame, FrameFlag
from rtpipe.window.mask import closed_mask, davis_mask
from rtpipe.window.scer import scer
from rtpipe.window.voxel import voxel_grid
from tests.engines.efnet_golden import case, cases, events_of


def normalised(tensor, norm):
    out = np.full(tensor.shape, 7, np.float32)
    something = normalise(tensor, norm, out)
    assert something or not out.any()
    return out


@pytest.mark.parametrize("norm", ["maxabs", "robust"])
def test_scer_is_scaled_and_masked_as_the_networks_were_given_it(shared, norm) -> None:
    found = cases(shared, "rep-scer-*")
    assert len(found) == 12
    for name, golden in found.items():
        tensor = scer(events_of(golden), resolution=(int(golden["W"]), int(golden["H"])))
        out = normalised(tensor, norm)
        assert np.abs(out - golden[f"expected_{norm}_f64"]).max() < 1e-6, name
        bounds = robust_bounds(tensor)
        assert bounds == tuple(golden["robust_bounds"]), name
        assert np.array_equal(closed_mask(tensor) * 255, golden["expected_mask_close"][0]), name
        assert np.array_equal(davis_mask(tensor, bounds), golden["expected_mask_davis"][0]), name


def test_voxel_grids_are_scaled_by_the_cells_that_are_not_zero(shared) -> None:
    found = cases(shared, "rep-voxel-*")
    assert len(found) == 9
    for name, golden in found.items():
        grid = voxel_grid(events_of(golden), bins=6, resolution=(int(golden["W"]), int(golden["H"])))
        assert np.abs(normalised(grid, "meanstd") - golden["expected_norm_f64"]).max() < 1e-6, name


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays(np.float32, st.tuples(st.just(6), st.integers(1, 9), st.integers(1, 9)),
                  elements=st.integers(-5, 5).map(float)),
    st.sampled_from([1, 1_000_000]),
)  # fmt: skip
def test_percentiles_are_those_of_the_sorted_cells(tensor, factor) -> None:
    tensor = tensor * np.float32(factor)
    ordered = np.sort(tensor, axis=None)
    n = len(ordered)
    assert robust_bounds(tensor) == tuple(ordered[round(0.01 * q * (n - 1))] for q in (35, 65))


def test_one_hot_pixel_rules_the_greatest_value_but_not_the_percentiles() -> None:
    tensor = np.random.default_rng(0).integers(-3, 4, (6, 40, 40)).astype(np.float32)
    hot = tensor.copy()
    hot[:, 3, 3] = 900
    assert np.abs(normalised(hot, "maxabs")).mean() < 0.01
    assert np.allclose(normalised(hot, "robust")[:, 4:], normalised(tensor, "robust")[:, 4:])


@pytest.mark.parametrize("norm", ["maxabs", "robust", "meanstd"])
def test_nothing_becomes_zeros_and_says_so(norm) -> None:
    out = np.ones((6, 8, 8), np.float32)
    assert not normalise(np.zeros((6, 8, 8), np.float32), norm, out)
    assert not out.any()


@pytest.mark.parametrize(
    ("resolution", "size"), [((346, 260), (260, 348)), ((1, 1), (4, 4)), ((1632, 1224), (1224, 1632)), ((5, 7), (8, 8))]
)
def test_sides_grow_to_the_next_multiple_of_four(resolution, size) -> None:
    assert padded(resolution) == size


@pytest.mark.parametrize("order", ["bgr", "rgb"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize(("width", "height"), [(8, 8), (9, 6), (3, 1), (1, 2)])
def test_pictures_are_parts_of_white_mirrored_below_and_to_the_right(order, dtype, colour, width, height) -> None:
    white = np.iinfo(dtype).max
    image = np.random.default_rng(1).integers(0, white + 1, (height, width, 3) if colour else (height, width), dtype)
    inputs = Inputs(Route(color_order=order), (width, height))
    inputs.arrays[0][:] = 7
    inputs.fill(image, np.ones((6, height, width), np.float32))
    channels = np.repeat(image[:, :, None], 3, axis=2) if not colour else image
    channels = (channels if order == "bgr" else channels[:, :, ::-1]).astype(np.float32).transpose(2, 0, 1)
    high, wide = padded((width, height))
    channels = np.pad(channels, ((0, 0), (0, high - height), (0, wide - width)), mode="symmetric")
    assert np.array_equal(inputs.arrays[0][0], channels / np.float32(white))
    back = picture(inputs.arrays[0][0], image, order)
    assert back.dtype == dtype
    assert np.array_equal(back, image)


def test_windows_leave_nothing_behind_in_the_padding(shared) -> None:
    golden = case(shared, "e2e-efnet-pad")
    width, height = int(golden["W"]), int(golden["H"])
    inputs = Inputs(Route(), (width, height))
    random = np.random.default_rng(0)
    inputs.fill(golden["in_blur_bgr"], random.integers(-3, 4, (6, height, width)).astype(np.float32))
    tensor = scer(events_of(golden), resolution=(width, height))
    assert inputs.fill(golden["in_blur_bgr"], tensor)
    _, events, mask = inputs.arrays
    assert not events[..., height:, :].any()
    assert not events[..., width:].any()
    assert not mask[..., height:, :].any()
    assert not mask[..., width:].any()
    assert np.array_equal(mask[0, :, :height, :width] * 255, golden["mask_close"])
    assert np.array_equal(events[0, :, :height, :width], tensor / np.abs(tensor).max())


def test_a_mask_that_the_window_brings_is_taken_and_none_is_made_without_one() -> None:
    image, tensor = np.zeros((4, 4), np.uint8), np.ones((6, 4, 4), np.float32)
    brought = np.eye(4, dtype=np.uint8)
    inputs = Inputs(Route(), (4, 4))
    inputs.fill(image, tensor, brought)
    assert np.array_equal(inputs.arrays[2][0, 0], brought)
    inputs.fill(image, tensor)
    assert inputs.arrays[2].all()
    assert len(Inputs(Route(mask="none"), (4, 4)).arrays) == 2


def test_the_demonstrations_mask_is_decided_on_clipped_counts(shared) -> None:
    for name in ("e2e-efnet-davis346-dense", "e2e-efnet-davis346-sparse"):
        golden = case(shared, name)
        width, height = int(golden["W"]), int(golden["H"])
        tensor = scer(events_of(golden), resolution=(width, height))
        inputs = Inputs(Route(norm="robust", mask="davis"), (width, height))
        inputs.fill(golden["in_blur_bgr"], tensor)
        expected = np.unpackbits(golden["in_mask"], axis=1)[:, :344]
        assert np.array_equal(inputs.arrays[2][0, 0, :256, :344], expected), name
        assert robust_bounds(tensor) == tuple(golden["robust_bounds"])


@pytest.mark.parametrize(
    ("image", "tensor"),
    [
        (np.zeros((8, 8), np.float32), np.zeros((6, 8, 8), np.float32)),
        (np.zeros((8, 9), np.uint8), np.zeros((6, 8, 8), np.float32)),
        (np.zeros((8, 8, 4), np.uint8), np.zeros((6, 8, 8), np.float32)),
        (np.zeros((8, 8), np.uint8), np.zeros((5, 8, 8), np.float32)),
        (np.zeros((8, 8), np.uint8), np.zeros((6, 8, 8))),
    ],
    ids=["float picture", "another width", "four channels", "five bins", "double tensor"],
)
def test_what_does_not_fit_is_refused_in_words(image, tensor) -> None:
    with pytest.raises(InputError, match="efnet takes"):
        Inputs(Route(), (8, 8)).fill(image, tensor)


def test_pictures_are_clamped_and_rounded_half_to_even_or_cut() -> None:
    values = np.array([-1, 0, 0.5 / 255, 1.5 / 255, 2.5 / 255, 254.9 / 255, 1, 3], np.float32)
    output = np.tile(values, (3, 1, 1))
    like = np.zeros((1, len(values), 3), np.uint8)
    expected = (np.clip(values, 0, 1) * np.float32(255)).round()
    assert np.array_equal(picture(output, like, "bgr")[0, :, 1], expected)
    assert expected.tolist() == [0, 0, 0, 2, 2, 255, 255, 255]
    assert picture(output, like, "bgr", "truncate")[0, :, 0].tolist() == [0, 0, 0, 1, 2, 254, 255, 255]


def test_colours_come_back_as_bgr_and_grey_is_their_mean() -> None:
    output = np.stack([np.full((4, 4), value, np.float32) for value in (0.1, 0.4, 0.7)])
    colour, grey = np.zeros((4, 4, 3), np.uint8), np.zeros((3, 2), np.uint16)
    assert picture(output, colour, "bgr")[0, 0].tolist() == [26, 102, 178]
    assert picture(output, colour, "rgb")[0, 0].tolist() == [178, 102, 26]
    assert (picture(output, grey, "rgb") == round(0.4 * 65535)).all()


def test_the_frame_keeps_its_times_and_says_who_made_it() -> None:
    frame = Frame(np.zeros((4, 4), np.uint8), 50, 0, 100, flags=FrameFlag.INCOMPLETE)
    made = sharp_frame(np.ones((1, 3, 4, 4), np.float32), frame, "bgr", "nearest", FrameFlag.SKIPPED_BEFORE)
    assert (made.t, made.exposure_start, made.exposure_end, made.source) == (50, 0, 100, "efnet")
    assert made.flags == FrameFlag.INCOMPLETE | FrameFlag.SKIPPED_BEFORE
    assert (made.image == 255).all()
    assert not frame.image.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3)])
def test_a_network_that_gives_no_numbers_is_not_shown(value, shape) -> None:
    output = np.zeros((3, 4, 4), np.float32)
    output[1, 3, 2] = value
    with pytest.raises(WorldError, match="no numbers"):
        picture(output, np.zeros(shape, np.uint8), "bgr")
