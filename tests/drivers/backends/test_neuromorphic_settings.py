"""Settings in the SDK's typed configurations, held to the SDK's own masks, types and serialization."""

import numpy as np
import pytest

from drivers.backends import neuromorphic_settings as typed
from drivers.camera.settings import Camera, FrameCamera, Frames, Roi
from rtpipe.errors import InputError

nd = pytest.importorskip("neuromorphic_drivers")


def made(model, settings):
    kind = typed.kind_of(model)
    configuration = typed.configuration(kind, nd, settings)
    configuration.serialize()  # the package's own check of types
    return configuration


@pytest.mark.parametrize("kind", typed.KINDS, ids=lambda kind: kind.model)
def test_left_out_is_as_the_sdk_has_it_but_for_filters_that_drop_events(kind):
    module = getattr(nd, kind.module)
    expected = module.Configuration()
    if hasattr(expected, "activity_filter"):
        expected.activity_filter.mask_isolated_enable = False
    assert made(kind.model, FrameCamera()) == expected
    size = module.Properties()
    assert (size.width, size.height) == kind.resolution
    assert nd.Name(kind.name)
    assert expected.type() == kind.module


@pytest.mark.parametrize("model", ["EVK4", "EVK3 HD"])
def test_a_roi_is_what_the_sdk_itself_draws_of_its_masks(model):
    configuration = made(model, Camera(roi=Roi(x=100, y=30, width=64, height=200)))
    mask = nd.prophesee_evk4.RowColumnMask(set=False)
    bits = lambda words, n: np.unpackbits(np.array(words, "<u8").view(np.uint8), bitorder="little")[:n]  # noqa: E731
    mask.x_unpacked[:] = bits(configuration.x_mask, 1280)
    mask.y_unpacked[:] = bits(configuration.y_mask, 720)
    assert mask.x_mask() == configuration.x_mask
    assert mask.y_mask() == configuration.y_mask
    expected = np.zeros((720, 1280), bool)
    expected[30:230, 100:164] = True
    assert np.array_equal(mask.pixels(), expected)


def test_masked_pixels_are_those_that_the_sdk_draws():
    pixels = [(5, 0), (1279, 719), (640, 100)]
    configuration = made("EVK4", Camera(mask=pixels))
    codes = [(word >> (21 * k)) & 0x1FFFFF for word in configuration.pixel_mask for k in range(3)]
    places = {((code - 1) % 1280, 719 - (code - 1) // 1280) for code in codes if code}
    assert places == set(pixels)
    mask = nd.PropheseeEvk4PixelMask()
    for i, (x, y) in enumerate(pixels):
        mask.set(i, x, 719 - y)
    assert {(int(x), int(y)) for y, x in np.argwhere(mask.pixels())} == set(pixels)
    assert mask.pixel_mask() == configuration.pixel_mask


def test_a_davis_masks_eight_pixels_by_their_number():
    assert made("DAVIS346", Camera(mask=[(0, 0), (345, 259)])).pixel_mask == (1, 346 * 260, 0, 0, 0, 0, 0, 0)
    assert made("DAVIS346", Camera(mask=[(i, i) for i in range(9)])).pixel_mask == (0,) * 8  # the host's, then


@pytest.mark.parametrize(("us", "ticks"), [(1, 1), (250, 1), (251, 2), (2000, 8), (10_000, 40)])
def test_times_of_davis_filters_are_rounded_up_to_their_ticks(us, ticks):
    found = made("DAVIS346", Camera(activity_us=us, refractory_us=us)).activity_filter
    assert (found.mask_isolated_enable, found.mask_isolated_tau) == (True, ticks)
    assert (found.refractory_period_enable, found.refractory_period_tau) == (True, ticks)


@pytest.mark.parametrize(
    ("rate", "period", "most"), [(10, 200, 2000), (0.1, 200, 20), (0.01, 1000, 10), (1000, 200, 200_000)]
)
def test_a_rate_limit_is_events_per_period(rate, period, most):
    limiter = made("EVK4", Camera(rate_limit_mev_s=rate)).rate_limiter
    assert (limiter.reference_period_us, limiter.maximum_events_per_period) == (period, most)
    assert limiter.maximum_events_per_period / limiter.reference_period_us == pytest.approx(rate)
    assert limiter.reference_period_us < 1 << 10


def test_exposure_interval_biases_and_clock_are_passed_on():
    davis = made("DAVIS346", FrameCamera(frames=Frames(exposure_us=15_000, interval_us=33_000), biases={"onbn": 1500}))
    assert (davis.exposure_us, davis.frame_interval_us, davis.biases.onbn) == (15_000, 33_000, 1500)
    clock = nd.prophesee_evk4.Clock
    assert made("EVK4", Camera(sync="master")).clock is clock.INTERNAL_WITH_OUTPUT_ENABLED
    assert made("EVK4", Camera(sync="secondary")).clock is clock.EXTERNAL
    assert made("EVK4", Camera(triggers=False)).enable_external_trigger is False
    explorer = made("DVXplorer", Camera(biases={"on": 12, "log": 1, "readout_fps": 5000}))
    assert (explorer.biases.on, explorer.biases.log) == (12, True)
    assert explorer.readout_frames_per_second is nd.inivation_dvxplorer.ReadoutFramesPerSecond.VARIABLE5000


@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        (
            "EVK4",
            Camera(roi=Roi(x=1200, y=0, width=100, height=10)),
            "roi: 100x10 at .1200, 0. is not inside .* 1280x720",
        ),
        ("EVK4", Camera(mask=[(1280, 0)]), "mask: there is no pixel .1280, 0."),
        ("EVK4", Camera(biases={"gain": 1}), "biases.gain: no such bias on this camera .EVK4.; it has pr, fo"),
        ("DVXplorer", Camera(biases={"readout_fps": 300}), "300 is none of 100, 200"),
        ("DAVIS346", FrameCamera(frames=Frames(exposure_us=5_000_000)), "frames.exposure_us: 1 to 4194303 µs wanted"),
    ],
)
def test_what_cannot_be_is_refused_in_plain_words(model, settings, says):
    with pytest.raises(InputError, match=says) as caught:
        made(model, settings)
    assert "\n" not in str(caught.value)


def test_biases_out_of_the_cameras_own_bounds_are_refused_with_the_range():
    kind = typed.kind_of("EVK4")
    typed.check_biases(kind, nd, Camera(biases={"diff_on": -20}), {"diff_on": (-85, 140)})
    with pytest.raises(InputError, match=r"biases\.diff_on: -85 to 140 wanted, not 141"):
        typed.check_biases(kind, nd, Camera(biases={"diff_on": 141}), {"diff_on": (-85, 140)})


def test_capabilities_name_only_what_settings_can_ask_for():
    fields = {*Camera.__struct_fields__, "frames.exposure_us", "frames.interval_us"}
    for kind in typed.KINDS:
        found = typed.capabilities(kind, nd, {}, 0)
        assert len({each.name for each in found}) == len(found)
        assert all(each.name in fields or each.name.startswith("biases.") for each in found)
    evk4 = {each.name for each in typed.capabilities(typed.kind_of("EVK4"), nd, {}, 0)}
    assert {"roi", "mask", "rate_limit_mev_s", "sync", "triggers", "biases.diff_on"} <= evk4
    davis = {each.name for each in typed.capabilities(typed.kind_of("DAVIS346"), nd, {}, 9)}
    assert {"frames.exposure_us", "activity_us"} <= davis
    assert not {"mask", "roi"} & davis
