"""EFNet from windows to pictures, against golden end-to-end cases."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engines.efnet import weights  # noqa: E402
from engines.efnet.finish import picture  # noqa: E402
from engines.efnet.graph import efnet  # noqa: E402
from engines.efnet.prepare import Inputs, Route, normalise  # noqa: E402
from engines.runtime import choose, onnxruntime  # noqa: E402
from engines.settings import Learned  # noqa: E402
from rtpipe.engine import load_engine  # noqa: E402
from rtpipe.errors import InputError  # noqa: E402
from rtpipe.types import Frame, FrameFlag, Window  # noqa: E402
from rtpipe.window.mask import closed_mask, davis_mask  # noqa: E402
from rtpipe.window.scer import scer  # noqa: E402
from tests.engines.efnet_golden import GOPRO, case, events_of, install, relative, stored, window_of  # noqa: E402

TORCH = Learned(runtime="torch", device="cpu", threads=1)


@pytest.fixture
def installed(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    install(shared, "efnet-gopro", GOPRO)
    install(shared, "efnet-highrev", weights.HIGHREV)


def engine(size, **settings):
    made = load_engine(
        "efnet", **{"weights": "efnet-gopro", "runtime": "torch", "device": "cpu", "threads": 1, **settings}
    )
    made.warm(size)
    return made


def assert_same_picture(found, expected) -> None:
    """uint8 pictures off by one in at most 0.1 % of the values."""
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3


@pytest.mark.parametrize(
    ("name", "weights_", "representation", "key"),
    [
        ("e2e-efnet-pad", "efnet-gopro", "scer", "out_u8_bgr_pad_symmetric"),
        ("e2e-efnet-highrev", "efnet-highrev", "voxel", "out_u8_bgr"),
    ],
)
def test_a_window_becomes_the_published_networks_picture(
    shared, installed, name, weights_, representation, key
) -> None:
    golden = case(shared, name)
    blurred = golden["in_blur_bgr"]
    made = engine((blurred.shape[1], blurred.shape[0]), weights=weights_)
    assert made.spec.representation == representation
    (frame,) = made.infer(window_of(golden, blurred, representation))
    assert_same_picture(frame.image, golden[key])
    assert (frame.source, frame.flags) == ("efnet", FrameFlag.NONE)
    assert "PyTorch" in made.facts["runtime"]
    assert made.facts["weights"] == weights_


def through(shared, image, events, mask):
    """The raw output for prepared parts whose sides are multiples of 4 (some routes crop; the engine never does)."""
    inputs = Inputs(Route(), (image.shape[1], image.shape[0]))
    inputs.fill(image, np.ascontiguousarray(events), mask)
    inputs.arrays[1][0] = events  # these are normalised already
    session = choose.open(efnet(stored(shared), inputs.resolution), TORCH)
    return session.run(inputs.arrays)[0][0].copy()


@pytest.mark.slow
def test_reblur_as_its_authors_tested_it(shared) -> None:
    golden = case(shared, "e2e-efnet-reblur")
    events = events_of(golden)
    rows = 260  # the sensor's last two are dropped before anything is made of them, then 256 are tested
    kept = events.y < rows
    events = type(events)(events.t[kept], events.x[kept], events.y[kept], events.p[kept])
    tensor = scer(events, resolution=(320, rows))
    assert np.array_equal(tensor, golden["h5_voxel"])
    mask = closed_mask(tensor)
    assert np.array_equal(mask * 255, golden["h5_mask"][0])
    normal = np.empty_like(tensor)
    normalise(tensor, "maxabs", normal)
    output = through(shared, golden["in_blur_bgr"][:256], normal[:, :256], mask[:256])
    assert relative(np.clip(output[0], 0, 1), golden["out_f32_c0"]) < 2e-5
    assert_same_picture(picture(output, golden["out_u8_bgr"], "bgr"), golden["out_u8_bgr"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_the_demonstration_for_davis346(shared, name) -> None:
    golden = case(shared, f"e2e-efnet-davis346-{name}")
    tensor = scer(events_of(golden), resolution=(346, 260))
    normal = np.empty_like(tensor)
    normalise(tensor, "robust", normal)
    mask = davis_mask(tensor, tuple(golden["robust_bounds"]))
    output = through(
        shared, golden["in_blur_bgr"][:256, :344], normal[:, :256, :344], np.ascontiguousarray(mask[:256, :344])
    )
    assert relative(output[0], golden["out_f32_c0"]) < 2e-5
    assert_same_picture(picture(output, golden["out_u8_bgr"], "bgr", "truncate"), golden["out_u8_bgr"])


def golden_step(shared, name, settings):
    golden = case(shared, name)
    height, width = golden["in_image"].shape[2:]
    masked = "in_mask" in golden
    session = choose.open(efnet(stored(shared, GOPRO if masked else weights.HIGHREV), (width, height)), settings)
    inputs = [golden[key] for key in ("in_image", "in_event", "in_mask") if key in golden]
    return relative(session.run(inputs)[0], golden["out_2"]), session


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("efnet-b-mask", "onnxruntime"),
        pytest.param("efnet-b-nomask", "onnxruntime", marks=pytest.mark.slow),
        ("efnet-b-nomask", "torch"),
    ],
)
def test_runtimes_compute_the_published_network(shared, tmp_path, monkeypatch, name, runtime) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    difference, session = golden_step(shared, name, Learned(runtime=runtime, device="cpu", threads=1))
    assert difference < 2e-5
    assert "cpu, fp32" in session.facts["runtime"]


@pytest.mark.slow
def test_exported_in_half_precision_it_is_within_half_a_grey_level(shared, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    golden = case(shared, "efnet-b-mask")
    session = onnxruntime.open(efnet(stored(shared), (88, 68)), "cpu", "fp16", 1, lambda _: None)
    (found,) = session.run([golden[key] for key in ("in_image", "in_event", "in_mask")])
    assert 0 < np.abs(found - golden["out_2"]).max() < 0.5 / 255


@pytest.fixture(scope="module")
def small(shared, tmp_path_factory):
    """An engine for 13x9 pixels, and a window for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTPIPE_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        install(shared, "efnet-gopro")
        made = engine((13, 9))
    random = np.random.default_rng(3)
    tensor = random.integers(-3, 4, (6, 9, 13)).astype(np.float32)
    image = random.integers(0, 256, (9, 13, 3)).astype(np.uint8)
    return made, Window(0, 1000, 500, tensor, closed_mask(tensor), frame=Frame(image, 500, 0, 1000))


def with_image(window, image):
    return replace(window, frame=replace(window.frame, image=image))


def test_grey_cameras_get_grey_pictures(small) -> None:
    made, window = small
    grey = window.frame.image[:, :, 1].copy()
    (alone,) = made.infer(with_image(window, grey))
    (colour,) = made.infer(with_image(window, np.repeat(grey[:, :, None], 3, axis=2)))
    assert alone.image.shape == grey.shape
    assert colour.image.shape == (9, 13, 3)
    output = made.network.step(*made._inputs.arrays)[0][0, :, :9, :13]
    assert np.array_equal(alone.image, (np.clip(output.mean(axis=0), 0, 1) * 255).round().astype(np.uint8))


def test_sixteen_bits_give_what_eight_give_only_finer(small) -> None:
    made, window = small
    (eight,) = made.infer(window)
    (sixteen,) = made.infer(with_image(window, window.frame.image.astype(np.uint16) * 257))
    assert sixteen.image.dtype == np.uint16
    assert np.abs(sixteen.image / 257 - eight.image.astype(float)).max() < 0.51


@pytest.mark.parametrize(
    "changed",
    [
        {"n_events": 0, "tensor": np.zeros((6, 9, 13), np.float32)},
        {"n_events": 1, "tensor": np.zeros((6, 9, 13), np.float32)},
        {"n_events": 200, "tensor": np.zeros((6, 9, 13), np.float32)},
        {"tensor": None},
        {"flags": FrameFlag.PASSED_THROUGH},
    ],
    ids=["no events", "one event", "events of one instant", "no tensor", "no exposure"],
)
def test_an_empty_exposure_passes_the_frame_through(small, changed) -> None:
    made, window = small
    (frame,) = made.infer(replace(window, **changed))
    assert np.array_equal(frame.image, window.frame.image)
    assert frame.image is not window.frame.image
    assert frame.flags & FrameFlag.PASSED_THROUGH


def test_how_few_events_are_too_few_is_a_setting(shared, installed) -> None:
    tensor = np.ones((6, 8, 8), np.float32)
    window = Window(0, 1000, 32, tensor, frame=Frame(np.full((8, 8), 9, np.uint8), 500, 0, 1000))
    made = engine((8, 8), fewest=500.0)
    assert not made.infer(window)[0].flags
    assert made.infer(replace(window, n_events=31))[0].flags == FrameFlag.PASSED_THROUGH


def test_a_window_without_a_frame_gives_none_and_one_of_another_size_is_refused(small) -> None:
    made, window = small
    assert made.infer(replace(window, frame=None)) == ()
    with pytest.raises(InputError, match="efnet takes grey or BGR pictures 13x9"):
        made.infer(with_image(window, np.zeros((9, 14), np.uint8)))
    with pytest.raises(RuntimeError, match="warm"):
        load_engine("efnet", weights="x").infer(window)


def test_windows_leave_nothing_behind(small) -> None:
    made, window = small
    (first,) = made.infer(window)
    made.infer(replace(window, tensor=-2 * window.tensor, mask=None))
    made.reset()
    assert np.array_equal(made.infer(window)[0].image, first.image)
