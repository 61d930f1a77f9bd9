"""The whole simulator: events and frames of one and the same light, into a file and back."""

import itertools
import json

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from rtpipe.errors import InputError, WorldError
from rtpipe.formats import open_recording
from rtpipe.packing import fault
from rtpipe.simulate import CameraSettings, SensorSettings, simulate
from rtpipe.simulate.camera import Camera, exposures
from rtpipe.simulate.path import handheld
from rtpipe.simulate.recording import play
from rtpipe.simulate.scene import StillScene
from rtpipe.simulate.sensor import Sensor
from rtpipe.types import Events
from tests.simulate.test_scene import write_video

SIZE = (80, 60)
CLEAN = CameraSettings(full_well=0, read_noise=0, gain_spread=0)
NO_LOSS = SensorSettings(bandwidth_hz=0, refractory_us=0, leak_hz=0, noise_hz=0, hot_share=0)


def landscape(width=400, height=300):
    """Something with soft and sharp edges of many sizes."""
    random = np.random.default_rng(11)
    picture = np.full((height, width), 0.3)
    for _ in range(120):
        centre = random.integers(0, width), random.integers(0, height)
        cv2.circle(picture, [int(c) for c in centre], int(random.integers(4, 40)), random.uniform(0.02, 1), -1)
    return cv2.GaussianBlur(picture, (0, 0), 1.0).astype(np.float32)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "landscape.png"
    cv2.imwrite(str(path), np.repeat((landscape() ** 0.45 * 255).astype(np.uint8)[..., None], 3, axis=2))
    return path


def played(sensor_settings, seed=0, duration=250_000):
    taken = exposures(CLEAN, duration, seed)
    scene = StillScene(landscape(), handheld(SIZE, taken, 8.0, seed), duration)
    sensor = Sensor(SIZE, sensor_settings, seed)
    items = list(play(scene, sensor, Camera(SIZE, CLEAN, seed), taken, duration))
    events = Events.concatenate(item for item in items if isinstance(item, Events))
    frames = [item for item in items if not isinstance(item, Events)]
    truth = [frame for frame in frames if frame.source == "truth"]
    return scene, sensor, events, [frame for frame in frames if frame.source == "camera"], truth


def rendered(scene, t):
    light = np.empty(SIZE[::-1], np.float32)
    scene.render(t, light)
    return light


def integrated(events, t0, t1, sensor):
    """What the events of t0 < t <= t1 say of the change of log light, by the true thresholds."""
    between = events.between(t0 + 1, t1 + 1)
    change = np.zeros(SIZE[::-1])
    x, y = between.x, between.y
    np.add.at(change, (y, x), np.where(between.p == 1, sensor.contrast_on[y, x], -sensor.contrast_off[y, x]))
    return change


def test_a_frame_is_the_mean_light_of_its_exposure_and_the_truth_its_middle():
    scene, _, _, frames, truth = played(NO_LOSS)
    assert len(frames) == len(truth) == 6
    for frame, sharp in zip(frames, truth, strict=True):
        start, end = frame.exposure_start, frame.exposure_end
        assert sharp.t == frame.t == (start + end) // 2
        instants = np.linspace(start, end, 401)
        light = [rendered(scene, int(t)) for t in instants]
        mean = np.trapezoid(np.stack(light), instants, axis=0) / (end - start)
        assert np.abs(frame.image - np.clip(5 + 230 * mean, 0, 255)).max() < 1.0
        exact = np.clip(5 + 230 * rendered(scene, sharp.t), 0, 255)
        assert np.abs(sharp.image - exact).max() <= 0.501
        assert np.abs(frame.image.astype(int) - sharp.image).mean() > 4  # it is blurred


def test_events_and_pictures_tell_of_the_same_light():
    """Events times each pixel's own thresholds give the change from truth to truth, to within one threshold."""
    scene, sensor, events, _, truth = played(NO_LOSS)
    largest = sensor.contrast_on + sensor.contrast_off
    for before, after in itertools.pairwise(truth):
        change = np.log(rendered(scene, after.t) + 0.03) - np.log(rendered(scene, before.t) + 0.03)
        error = integrated(events, before.t, after.t, sensor) - change
        assert np.abs(change).max() > 1
        assert (np.abs(error) < largest + 1e-3).all()
        assert np.abs(error).mean() < 0.5 * largest.mean()


def test_a_real_sensors_faults_make_events_tell_it_less_well_but_well():
    scene, sensor, events, _, truth = played(SensorSettings())
    for before, after in itertools.pairwise(truth):
        # from the eight-bit pictures, as an engine would have to
        ratio = np.log(after.image - 5 + 6.9) - np.log(before.image - 5 + 6.9)
        change = integrated(events, before.t, after.t, sensor)
        moved = np.abs(ratio) > 0.3
        assert np.corrcoef(change[moved], ratio[moved])[0, 1] > 0.9
        assert np.median(np.abs(change - ratio)) < 0.3
    truly = np.log(rendered(scene, truth[-1].t) + 0.03) - np.log(rendered(scene, truth[0].t) + 0.03)
    assert np.abs(integrated(events, truth[0].t, truth[-1].t, sensor) - truly).max() > 0.6  # no longer within bounds


def test_what_is_written_is_what_the_file_gives_back(picture, tmp_path):
    done = []
    report = simulate(picture, tmp_path / "a.h5", resolution=SIZE, seconds=0.3, seed=4, progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 1
    with open_recording(tmp_path / "a.h5") as recording:
        events = recording.events()
        frames, truth = list(recording.frames()), list(recording.truth())
        assert recording.resolution == SIZE
    assert fault(events, SIZE) == ""
    assert len(events) == report.events > 10_000
    assert int(events.p.sum()) == report.on
    assert len(frames) == len(truth) == report.frames == len(report.blur_px) == 7
    assert report.event_rate == pytest.approx(report.events / 0.3)
    taken = exposures(CameraSettings(), 300_000, 4)
    assert [(f.exposure_start, f.exposure_end) for f in frames] == taken
    assert [f.t for f in frames] == [f.t for f in truth] == [(a + b) // 2 for a, b in taken]
    assert {f.image.shape for f in frames + truth} == {SIZE[::-1]}
    assert report.contrast_on[0] == pytest.approx(0.27, rel=0.02)
    assert report.contrast_off[1] == pytest.approx(0.12 * 0.31, rel=0.1)


def test_the_same_arguments_give_the_same_recording(picture, tmp_path):
    def run(name, seed):
        simulate(picture, tmp_path / name, resolution=SIZE, seconds=0.1, seed=seed)
        with open_recording(tmp_path / name) as recording:
            events = recording.events()
            pictures = [f.image for f in (*recording.frames(), *recording.truth())]
        return b"".join(column.tobytes() for column in (events.t, events.x, events.y, events.p, *pictures))

    assert run("a.h5", 1) == run("b.h5", 1) != run("c.h5", 2)


def test_a_video_makes_events_only_where_something_moves(tmp_path):
    pictures = []
    for i in range(40):
        image = np.full((60, 80, 3), 60, np.uint8)
        image[20:40, i : i + 10] = 250
        pictures.append(image)
    write_video(tmp_path / "bar.mkv", pictures, rate=250)
    report = simulate(tmp_path / "bar.mkv", tmp_path / "bar.h5", resolution=SIZE, seconds=60, sensor=NO_LOSS)
    assert report.seconds == pytest.approx(39 / 250)
    assert report.frames == 3
    assert report.blur_px == ()
    with open_recording(tmp_path / "bar.h5") as recording:
        events = recording.events()
    assert len(events) > 1000
    assert set(np.unique(events.y)) == set(range(20, 40))
    first_on = [events.t[(events.x == x) & (events.p == 1)].min() for x in range(12, 45, 4)]
    assert first_on == sorted(first_on)  # the bar goes to the right


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"resolution": (16, 60)}, "resolution 16x60"),
        ({"resolution": (5000, 60)}, "resolution 5000x60"),
        ({"seconds": 0}, "seconds 0"),
        ({"seconds": float("nan")}, "seconds nan"),
        ({"seconds": 0.03}, "no whole frame"),
        ({"seed": -1}, "seed -1"),
        ({"blur_px": -2}, "blur -2"),
        ({"blur_px": 21}, "a quarter of the width"),
        ({"camera": CameraSettings(exposure_us=50_000)}, "must be positive and fit into"),
        ({"sensor": SensorSettings(contrast_on=0.001)}, "at least 0.02"),
    ],
)
def test_impossible_wishes_are_refused_in_words(picture, tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        simulate(picture, tmp_path / "a.h5", **({"resolution": SIZE, "seconds": 0.1} | arguments))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_simulation_that_was_interrupted(picture, tmp_path):
    def stop(share):
        if share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(picture, tmp_path / "a.h5", resolution=SIZE, seconds=0.2, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_asked(picture, tmp_path):
    out = tmp_path / "a.h5"
    out.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        simulate(picture, out, resolution=SIZE, seconds=0.1)
    assert out.read_text() == "precious"
    simulate(picture, out, resolution=SIZE, seconds=0.1, overwrite=True)
    assert out.read_bytes()[:4] == b"\x89HDF"


def test_a_folder_that_does_not_exist_is_said(picture, tmp_path):
    with pytest.raises((WorldError, InputError), match="nowhere"):
        simulate(picture, tmp_path / "nowhere" / "a.h5", resolution=SIZE, seconds=0.1)


def command(*arguments):
    from rtpipe.cli.simulate import simulate as verb

    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_line_tells_what_it_made(picture, tmp_path):
    small = ("--size", "80x60", "--seconds", "0.1")
    result = command(picture, tmp_path / "a.h5", *small, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["frames"], told["resolution"], told["seed"]) == (2, [80, 60], 0)
    result = command(picture, tmp_path / "b.h5", *small, "--fps", "40", "--exposure-ms", "20")
    assert result.exit_code == 0, result.output
    assert "80x60" in result.stdout
    assert "4 frames" in result.stdout
    assert f"{told['events']:,} events" not in result.stdout


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--size", "80"), "--size 80"),
        (("--size", "9" * 5000 + "x60"), "WIDTHxHEIGHT is wanted"),
        (("--fps", "0"), "--fps 0"),
        (("--fps", "inf"), "--fps inf"),
        (("--exposure-ms", "nan"), "--exposure-ms nan"),
        (("--seed", "-3"), "seed -3"),
    ],
)
def test_the_command_line_refuses_in_words(picture, tmp_path, option, words):
    result = command(picture, tmp_path / "a.h5", *option)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)


def test_gzip_needs_no_plugin_and_holds_the_same(picture, tmp_path):
    import h5py

    for name, compression in (("a.h5", "gzip"), ("b.h5", "blosc")):
        simulate(picture, tmp_path / name, resolution=SIZE, seconds=0.1, compression=compression)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert (a["events/ts"].compression, b["events/ts"].compression) == (
            "gzip",
            "unknown",
        )  # h5py's word for a plugin's
        for column in ("ts", "xs", "ys", "ps"):
            np.testing.assert_array_equal(a["events"][column][:], b["events"][column][:])
