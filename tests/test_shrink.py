"""An engine at a smaller size sees what larger pixels would have seen, and its pictures fit the sensor again."""

from collections.abc import Sequence

import numpy as np
import pytest

from rtpipe.errors import InputError
from rtpipe.shrink import Shrunk
from rtpipe.stage import EngineSpec
from rtpipe.types import Frame, FrameFlag, Resolution, Window
from rtpipe.window.mask import closed_mask

SIZE = (11, 7)


class Echo:
    """Shows the first channel, or the frame; keeps what it was given."""

    def __init__(self, representation: str = "scer", passes: bool = False) -> None:
        self.spec = EngineSpec("echo", representation, needs_frame=True, stateful=False)
        self.passes = passes
        self.done: list[object] = []
        self.given: list[Window] = []

    def warm(self, resolution: Resolution) -> None:
        self.done.append(resolution)

    def reset(self) -> None:
        self.done.append("reset")

    def skipped(self, window: Window) -> None:
        self.done.append("skipped")

    def infer(self, window: Window) -> Sequence[Frame]:
        self.given.append(window)
        assert window.frame is not None
        flags = FrameFlag.PASSED_THROUGH if self.passes else FrameFlag.NONE
        return [Frame(window.frame.image, 5, source="echo", flags=flags)]


def window(channels: int = 6, colour: bool = True) -> Window:
    random = np.random.default_rng(0)
    width, height = SIZE
    tensor = random.integers(-3, 4, (channels, height, width)).astype(np.float32)
    image = random.integers(0, 256, (height, width, 3) if colour else (height, width)).astype(np.uint8)
    return Window(0, 10, 77, tensor, closed_mask(tensor), frame=Frame(image, 5, 0, 10))


@pytest.mark.parametrize("factor", [2, 3, 8])
@pytest.mark.parametrize("colour", [True, False])
def test_blocks_are_averaged_and_pictures_enlarged(factor: int, colour: bool) -> None:
    engine = Echo()
    shrunk = Shrunk(engine, factor)
    shrunk.warm(SIZE)
    given = window(colour=colour)
    (made,) = shrunk.infer(given)
    (seen,) = engine.given
    width, height = -(-SIZE[0] // factor), -(-SIZE[1] // factor)
    assert engine.done == [(width, height)]
    assert seen.tensor is not None
    assert seen.frame is not None
    assert given.tensor is not None
    assert given.frame is not None
    assert seen.tensor.shape == (6, height, width)
    assert seen.tensor.flags.c_contiguous
    for y in range(height):
        for x in range(width):
            block = np.zeros((6, factor, factor), np.float32)
            part = given.tensor[:, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            block[:, : part.shape[1], : part.shape[2]] = part
            np.testing.assert_allclose(seen.tensor[:, y, x], block.mean(axis=(1, 2)), atol=1e-6)
    whole = given.frame.image[:factor, :factor].astype(float).mean(axis=(0, 1)) if factor < 7 else None
    if whole is not None:
        assert np.abs(seen.frame.image[0, 0] - whole).max() <= 0.5001
    np.testing.assert_array_equal(seen.mask, closed_mask(seen.tensor))
    assert made.image.shape == given.frame.image.shape
    assert made.image.flags.c_contiguous
    assert (seen.n_events, seen.frame.exposure_start) == (77, 0)


def test_a_flat_picture_stays_flat() -> None:
    shrunk = Shrunk(Echo(), 3)
    shrunk.warm(SIZE)
    flat = Frame(np.full((SIZE[1], SIZE[0]), 90, np.uint8), 5)
    (made,) = shrunk.infer(Window(0, 10, 0, frame=flat))
    assert (made.image == 90).all()


def test_what_is_passed_through_is_the_cameras_own_picture() -> None:
    shrunk = Shrunk(Echo(passes=True), 2)
    shrunk.warm(SIZE)
    given = window()
    (made,) = shrunk.infer(given)
    assert given.frame is not None
    np.testing.assert_array_equal(made.image, given.frame.image)
    assert not np.shares_memory(made.image, given.frame.image)


def test_a_learned_tensor_keeps_its_order_in_memory() -> None:
    from rtpipe.window import letc

    engine = Echo("calibrated_voxel")
    shrunk = Shrunk(engine, 2)
    shrunk.warm(SIZE)
    shrunk.infer(window(letc.empty(SIZE).shape[0]))
    (seen,) = engine.given
    assert seen.tensor is not None
    assert seen.tensor.strides == letc.empty((6, 4)).strides


@pytest.mark.parametrize("representation", ["events", "time_surface", "stack"])
def test_what_cannot_be_averaged_is_refused_with_the_way_out(representation: str) -> None:
    with pytest.raises(InputError, match=f"{representation}.*filter downsample"):
        Shrunk(Echo(representation), 2)


def test_the_rest_goes_through_to_the_engine() -> None:
    engine = Echo("none")
    shrunk = Shrunk(engine, 2)
    shrunk.warm(SIZE)
    shrunk.reset()
    shrunk.skipped(window())
    assert engine.done == [(6, 4), "reset", "skipped"]
    assert shrunk.facts == {"size": "6x4 enlarged"}
    assert shrunk.spec is engine.spec
