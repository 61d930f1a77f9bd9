"""ROS bags: real ones against another parser of their messages, made ones against what went in."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import Reader as Reader2
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import format_of, open_recording
from rtpipe.types import Events

BAGS = {
    "codecs_test_data_evt3_trigger_0.db3": (82_469, (1280, 720), 2),
    "event_camera_py_test_events_1.bag": (343_474, (640, 480), 4157),
    "event_camera_py_test_events_2_0.mcap": (571_266, (346, 260), 0),
}
MESSAGES = {
    "dvs_msgs/msg/Event": "uint16 x\nuint16 y\nTIME ts\nbool polarity",
    "dvs_msgs/msg/EventArray": "std_msgs/Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events",
    "event_camera_msgs/msg/EventPacket": "std_msgs/Header header\nuint32 height\nuint32 width\nuint64 seq\n"
    "uint64 time_base\nstring encoding\nbool is_bigendian\nuint8[] events",
}
EPOCH_NS = 1_500_000_000_000_000_000


def packets_of(path: Path) -> Iterator[Any]:
    """A real bag's messages, as rosbags parses them."""
    ros1 = path.suffix == ".bag"
    types = store(ros1)
    with Reader1(path) if ros1 else Reader2(path) as bag:
        for connection, _, raw in bag.messages():
            yield (types.deserialize_ros1 if ros1 else types.deserialize_cdr)(raw, connection.msgtype)


def slow_libcaer_cmp(words: list[int]) -> list[tuple[int, int, int, int]]:
    """One word after the other, as the format is described."""
    found: list[tuple[int, int, int, int]] = []
    high = low = x = y = p = 0
    for word in words:
        code, value = divmod(word, 4096)
        if code == 0:
            high = value
        elif code == 1:
            low = value
        elif code == 2:
            x = value % 2048
        elif code == 3:
            found.append((high * 4096 + low, x, value % 2048, value // 2048))
        elif code == 4:
            y, p = value % 2048, value // 2048
        elif code == 5:
            found += [(high * 4096 + low, x, y + k, p) for k in range(8) if value & 2**k]
            y += 8
    return found


@pytest.mark.parametrize("name", BAGS)
def test_real_bags_open_with_all_their_events(shared: Callable[[str], Path], name: str) -> None:
    n, resolution, triggers = BAGS[name]
    path = shared(f"recordings/ros/{name}")
    assert format_of(path) == "ros"
    with open_recording(path) as reader:
        assert reader.resolution == resolution
        counts = reader.counts()
        assert (counts["camera/events"], counts.get("camera/triggers", 0)) == (n, triggers)
        events = reader.events()
        assert (int(events.t[0]), int(events.t[-1])) == (reader.t_start, reader.t_end)
        middle = (reader.t_start + reader.t_end) // 2
        later = reader.events(middle, middle + 50_000)
        expected = events.between(middle, middle + 50_000)
        for column in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(getattr(later, column), getattr(expected, column))


def test_libcaer_is_decoded_as_a_slow_obvious_decoder_does(shared: Callable[[str], Path]) -> None:
    path = shared("recordings/ros/event_camera_py_test_events_2_0.mcap")
    expected: list[tuple[int, int, int, int]] = []
    for message in packets_of(path):
        found = slow_libcaer_cmp(np.asarray(message.events).view("<u2").tolist())
        expected += [((message.time_base + t * 1000) // 1000, x, y, p) for t, x, y, p in found]
    with open_recording(path) as reader:
        events = reader.events()
    np.testing.assert_array_equal(np.stack([events.t, events.x, events.y, events.p], 1), np.array(expected))


@pytest.mark.parametrize("name", [name for name, row in BAGS.items() if row[2]])
def test_evt3_in_messages_is_the_stream_that_the_camera_sent(shared: Callable[[str], Path], name: str) -> None:
    from rtpipe.encodings import evt3

    path = shared(f"recordings/ros/{name}")
    parts = [np.asarray(message.events) for message in packets_of(path)]
    whole = evt3.Decoder(BAGS[name][1]).decode(np.concatenate(parts)).events
    with open_recording(path) as reader:
        events = reader.events()
    for column in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(events, column), getattr(whole, column))


def store(ros1: bool) -> Any:
    made = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    types: dict[str, Any] = {}
    for name, text in MESSAGES.items():
        types |= get_types_from_msg(text.replace("TIME", "time" if ros1 else "builtin_interfaces/Time"), name)
    made.register(types)
    return made


class Maker:
    """Makes messages of one kind of bag."""

    def __init__(self, ros1: bool) -> None:
        self.store, self.ros1 = store(ros1), ros1

    def time(self, ns: int) -> Any:
        return self.store.types["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)

    def header(self, ns: int) -> Any:
        first = {"seq": 0} if self.ros1 else {}
        return self.store.types["std_msgs/msg/Header"](**first, stamp=self.time(ns), frame_id="camera")

    def array(self, events: Events) -> Any:
        made = self.store.types["dvs_msgs/msg/Event"]
        rows = zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True)
        listed = [made(x=x, y=y, ts=self.time(t * 1000), polarity=bool(p)) for t, x, y, p in rows]
        header = self.header(int(events.t[0]) * 1000)
        return self.store.types["dvs_msgs/msg/EventArray"](header=header, height=48, width=64, events=listed)

    def packet(self, encoding: str, data: np.ndarray, base: int, stamp: int = EPOCH_NS) -> Any:
        return self.store.types["event_camera_msgs/msg/EventPacket"](
            header=self.header(stamp),
            height=48,
            width=64,
            seq=0,
            time_base=base,
            encoding=encoding,
            is_bigendian=False,
            events=data.view(np.uint8),
        )

    def image(self, ns: int, picture: np.ndarray, encoding: str) -> Any:
        height, width = picture.shape[:2]
        return self.store.types["sensor_msgs/msg/Image"](
            header=self.header(ns),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=picture.nbytes // height,
            data=picture.reshape(-1).view(np.uint8),
        )

    def imu(self, ns: int, value: float) -> Any:
        vector = self.store.types["geometry_msgs/msg/Vector3"]
        return self.store.types["sensor_msgs/msg/Imu"](
            header=self.header(ns),
            orientation=self.store.types["geometry_msgs/msg/Quaternion"](x=0, y=0, z=0, w=1),
            orientation_covariance=np.zeros(9),
            angular_velocity=vector(x=value, y=2 * value, z=3 * value),
            angular_velocity_covariance=np.zeros(9),
            linear_acceleration=vector(x=-value, y=0, z=9.8),
            linear_acceleration_covariance=np.zeros(9),
        )

    def write(self, path: Path, messages: list[tuple[str, int, Any]]) -> Path:
        writer = Writer1(path) if self.ros1 else Writer2(path, version=9, storage_plugin=StoragePlugin.MCAP)
        serialize = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        with writer:
            known: dict[str, Any] = {}
            for topic, log_ns, message in messages:
                kind = message.__msgtype__
                if topic not in known:
                    known[topic] = writer.add_connection(topic, kind, typestore=self.store)
                writer.write(known[topic], log_ns, serialize(message, kind))
        return path


def some_events(n: int, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = EPOCH_NS // 1000 + np.sort(rng.integers(0, 3_000_000, n))
    return Events(t, rng.integers(0, 64, n), rng.integers(0, 48, n), rng.integers(0, 2, n))


@pytest.fixture(params=["bag", "folder", "mcap"])
def everything(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Events]:
    """Events, pictures and inertial samples, in a ROS 1 bag, a ROS 2 bag's folder, and its one file alone."""
    ros1 = request.param == "bag"
    make, events = Maker(ros1), some_events(900)
    messages: list[tuple[str, int, Any]] = []
    for i in range(0, 900, 1 + 44):
        part = events[i : i + 45]
        messages.append(("/dvs/events", int(part.t[-1]) * 1000 + 3_000_000, make.array(part)))
    for k in range(30):
        ns = EPOCH_NS + k * 100_000_000
        messages.append(("/dvs/image_raw", ns + 20_000_000, make.image(ns, picture(k), "mono8")))
        messages.append(("/other/image_raw", ns, make.image(ns, picture(k), "mono8")))
    messages += [("/dvs/imu", EPOCH_NS + k * 10**7, make.imu(EPOCH_NS + k * 10**7, k / 100)) for k in range(100)]
    path = make.write(tmp_path / ("a.bag" if ros1 else "a"), sorted(messages, key=lambda row: row[1]))
    return (next(path.glob("*.mcap")) if request.param == "mcap" else path), events


def picture(k: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 255, (48, 64), dtype=np.uint8)


def test_events_pictures_and_samples_come_back_as_they_went_in(everything: tuple[Path, Events]) -> None:
    path, events = everything
    assert format_of(path) == "ros"
    with open_recording(path, exposure_us=10_000) as reader:
        assert [stream.name for stream in reader.streams] == ["camera/events", "camera/frames", "camera/imu"]
        assert reader.counts() == {"camera/events": 900, "camera/frames": 30, "camera/imu": 100}
        found = reader.events()
        for column in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(getattr(found, column), getattr(events, column))
        frames = list(reader.frames())
        for k, frame in enumerate(frames):
            np.testing.assert_array_equal(frame.image, picture(k))
            assert frame.t == EPOCH_NS // 1000 + k * 100_000
            assert (frame.t - frame.exposure_start, frame.exposure_end - frame.t) == (5000, 5000)
        (rotation,) = [np.concatenate([run.rotation for run in reader.imu()])]
        np.testing.assert_allclose(rotation[:, 1], np.arange(100) / 50, rtol=1e-6)
        late = EPOCH_NS // 1000 + 2_500_000
        np.testing.assert_array_equal(reader.events(late).t, events.t[events.t >= late])
        assert [frame.t for frame in reader.frames(late)] == [frame.t for frame in frames if frame.t >= late]
        assert len(list(reader.packets())) > 1500  # it can be played: a packet every 2 ms at least


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "bgra8", "mono16", "bayer_rggb8"])
def test_pictures_of_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    make = Maker(False)
    colour = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8), (0, 0), 6)
    stored = {
        "bgr8": colour,
        "rgb8": colour[..., ::-1],
        "bgra8": np.dstack([colour, colour[..., 0]]),
        "mono16": colour[..., 0].astype(np.uint16) * 200,
        "bayer_rggb8": np.where(
            np.add.outer(np.arange(48) % 2, np.arange(64) % 2) == 1,
            colour[..., 1],
            np.where((np.arange(48) % 2 == 0)[:, None], colour[..., 2], colour[..., 0]),
        ),
    }[encoding]
    message = make.image(EPOCH_NS, np.ascontiguousarray(stored), encoding)
    rows = [("/c/events", EPOCH_NS, make.array(some_events(5))), ("/c/image", EPOCH_NS, message)]
    with open_recording(make.write(tmp_path / "a", rows)) as reader:
        (frame,) = reader.frames()
    if encoding == "bayer_rggb8":
        assert np.abs(frame.image.astype(int) - colour).mean() < 4  # demosaicking guesses, but no colour is exchanged
    else:
        np.testing.assert_array_equal(frame.image, stored if encoding == "mono16" else colour)


def evt3_words(t: int, x: int) -> list[int]:
    return [0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF, 0x0000 | 7, 0x2000 | 1 << 11 | x]


def test_a_cameras_own_time_goes_on_over_its_wraps_wherever_reading_begins(tmp_path: Path) -> None:
    make = Maker(False)
    times = np.arange(1_000_000, 120_000_000, 250_000)  # two minutes; EVT3 begins anew every 16.8 s
    rows = []
    for k, t in enumerate(times.tolist()):
        words = np.array(evt3_words(t, k % 64), "<u2")
        stamp = EPOCH_NS + (t + k % 7 * 500) * 1000
        rows.append(("/c/events", stamp + 10**6, make.packet("evt3", words, 0, stamp)))
    path = make.write(tmp_path / "a", rows)
    with open_recording(path) as reader:
        assert (reader.t_start, reader.t_end) == (times[0], times[-1])
        np.testing.assert_array_equal(reader.events().t, times)
        for t0 in (0, 17_000_000, 33_554_432, 60_100_000, 119_000_000):
            np.testing.assert_array_equal(reader.events(t0).t, times[times >= t0])


def test_what_is_ambiguous_is_refused_with_its_option(tmp_path: Path) -> None:
    make, events = Maker(True), some_events(10)
    rows = [("/left/events", EPOCH_NS, make.array(events)), ("/right/events", EPOCH_NS, make.array(events))]
    path = make.write(tmp_path / "a.bag", rows)
    with pytest.raises(InputError, match=r"option topic: /left/events, /right/events"):
        open_recording(path)
    with open_recording(path, topic="/right/events") as reader:
        assert len(reader.events()) == 10
    with pytest.raises(InputError, match="no topic '/up'"):
        open_recording(path, topic="/up")


def test_what_is_wrong_is_said_with_its_place(tmp_path: Path) -> None:
    make = Maker(False)
    event = np.array([(31 << 32) | (1 << 63)], "<u8")
    for name, message, said in (
        ("off", make.packet("mono", np.array([200 << 32], "<u8"), EPOCH_NS), "coordinates"),
        ("odd", make.packet("mono", event.view("u1")[:7], EPOCH_NS), "no multiple of 8"),
        ("new", make.packet("evt9", event, EPOCH_NS), "'evt9'; libcaer_cmp"),
        ("none", make.image(EPOCH_NS, picture(0), "mono8"), "no topic of events"),
    ):
        path = make.write(tmp_path / name, [("/c/events", EPOCH_NS, message)])
        with pytest.raises(FormatError, match=said) as error:
            open_recording(path)
        assert str(path) in str(error.value)


def survive(recording: Path, seed: int, n: int) -> None:
    script = Path(__file__).with_name("read_mutated.py")
    command = [sys.executable, str(script), str(recording), str(seed), "0", str(n)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
    outcome = json.loads(done.stdout)
    assert outcome["refused"] > n // 5


def small_bag(folder: Path, kind: str) -> Path:
    make, events = Maker(kind == "bag"), some_events(120)
    words = np.array([word for k in range(40) for word in evt3_words(1000 * k, k)], "<u2")
    rows = [("/c/events", EPOCH_NS + k, make.packet("evt3", words[k::1][:20], 0)) for k in range(0, 100, 20)]
    if kind != "mcap":
        rows = [("/c/events", EPOCH_NS + k, make.array(events[k : k + 20])) for k in range(0, 120, 20)]
    rows += [("/c/image", EPOCH_NS + k, make.image(EPOCH_NS + k, picture(k), "mono8")) for k in range(3)]
    path = make.write(folder / ("a.bag" if kind == "bag" else "a"), rows)
    return next(path.glob("*.mcap")) if kind == "mcap" else path


@pytest.mark.parametrize("kind", ["bag", "mcap"])
def test_damaged_bags_are_read_soundly_or_refused(tmp_path: Path, kind: str) -> None:
    survive(small_bag(tmp_path, kind), 1, 120)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bag", "mcap", "folder", "db3"])
def test_a_thousand_damaged_bags_are_read_soundly_or_refused(
    tmp_path: Path, shared: Callable[[str], Path], kind: str
) -> None:
    real = "recordings/ros/codecs_test_data_evt3_trigger_0.db3"
    survive(shared(real) if kind == "db3" else small_bag(tmp_path, kind), 2, 1000)
