"""NER-Net as an engine: from RLED's files to pictures, with and without weights, live rhythms, jumps in time."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rtpipe
from engines.nernet import Engine, Settings
from engines.nernet.finish import finish
from engines.nernet.prepare import value
from engines.nernet.weights import NETWORK
from rtpipe.engine import EngineStage
from rtpipe.errors import InputError
from rtpipe.formats import rled_h5
from rtpipe.pipeline.config import load
from rtpipe.types import Array, Events, Frame, FrameFlag, Packet, StreamInfo, Window
from rtpipe.weights import importing, store
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage
from tests.engines.nernet_golden import Shared, published, tensors, write_checkpoint
from tests.pipeline import command_line

SIZE = (45, 34)
PERIOD_US = 40_000
FRAMES = 12


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(autouse=True)
def places(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(kept / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept / "cache"))


@pytest.fixture(scope="module")
def checkpoint(shared: Shared, kept: Path) -> Path:
    pytest.importorskip("torch")
    return write_checkpoint(kept / "ner.pth", tensors(shared), "module.")


@pytest.fixture
def installed(checkpoint: Path, shared: Shared) -> None:
    """Golden weights, and the published representation, by the command's own way."""
    importing.bring("nernet", checkpoint, {})
    importing.bring("nernet", shared("weights/nernet_letc.pth"), {})


@pytest.fixture(scope="module")
def recording(kept: Path) -> Path:
    """A file in RLED's layout: a bar that crosses a small sensor, a frame each 40 ms."""
    random = np.random.default_rng(4)
    n = 9000
    t = np.sort(random.integers(0, FRAMES * PERIOD_US, n)) + 3_000_000
    x = ((t - 3_000_000) * SIZE[0] // (FRAMES * PERIOD_US) + random.integers(0, 6, n)).clip(0, SIZE[0] - 1)
    events = Events(t, x, random.integers(0, SIZE[1], n), (random.random(n) < 0.6).astype(np.uint8))
    path = kept / "0000_25fps.h5"
    with rled_h5.Writer(path, SIZE) as writer:
        for k in range(FRAMES):
            begin = 3_000_000 + k * PERIOD_US
            writer.add_events(events.between(begin, begin + PERIOD_US))
            image = np.full(SIZE[::-1], 40 + k, np.uint8)
            writer.add_frame(Frame(image, begin + 20_000, begin + 5_000, begin + 35_000))
    return path


def stepped(path: Path, engine: Engine, **by: Any) -> Iterator[tuple[Window, Frame]]:
    """Each window, its tensor copied, and the picture made of it, through the stages of a run."""
    cutter, stage = WindowStage(WindowSettings(**by), engine.spec), EngineStage(engine)
    with rtpipe.open(path) as opened:
        stage.open(cutter.open([replace(stream, name=f"camera/{stream.kind}") for stream in opened.streams]))
        for packet in opened.packets():
            for window in cutter.process(replace(packet, stream=f"camera/{packet.stream.rsplit('/', 1)[-1]}")):
                seen = window.body
                if isinstance(seen, Window) and seen.tensor is not None:
                    seen = replace(seen, tensor=seen.tensor.copy())
                for made in stage.process(window):
                    if isinstance(made.body, Frame) and isinstance(seen, Window):
                        yield seen, made.body


def by_definition(events: Events, weights: dict[str, Array]) -> Array:
    voxel = np.zeros((10, SIZE[1], SIZE[0]))
    tau = (events.t - events.t[0]) / (events.t[-1] - events.t[0]) * 4
    for b in range(5):
        np.add.at(voxel, (5 * (1 - events.p.astype(int)) + b, events.y, events.x), tau * value(weights, tau - b))
    return voxel


def test_a_recording_in_rleds_layout_becomes_the_networks_pictures(
    installed: None, shared: Shared, recording: Path
) -> None:
    """Against the module itself, on windows that are cut from the file's own event_indices by hand."""
    torch = pytest.importorskip("torch")
    h5py = pytest.importorskip("h5py")
    from engines.nernet.network import NERNet

    with h5py.File(recording) as file:
        rows = file["event_indices"][:]
        t, x, y, p = (file[f"events/{name}"][:] for name in ("ts", "xs", "ys", "ps"))
    network = NERNet().eval()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in tensors(shared).items()})
    state, wanted = None, []
    for first, last in rows[:4]:
        events = Events(*(column[first:last].astype(np.int64) for column in (t, x, y, p)))
        voxel = torch.from_numpy(by_definition(events, tensors(shared))).float()[None]
        with torch.inference_mode():
            image, state = network(voxel, state)
        wanted.append(finish(image.numpy(), SIZE))

    engine = Engine(Settings(runtime="torch", device="cpu", threads=1))
    made = list(stepped(recording, engine, by="mid_exposure"))
    assert len(made) == FRAMES
    assert [picture.t for _, picture in made] == [window.frame.t for window, _ in made if window.frame]
    for expected, (_, picture) in zip(wanted, made, strict=False):
        off = np.abs(picture.image.astype(int) - expected)
        assert off.max() <= 1
        assert (off > 0).mean() < 0.02
    assert np.abs(made[3][1].image.astype(int) - made[0][1].image).max() > 5
    assert made[0][1].flags & FrameFlag.STATE_RESET
    assert engine.facts["windows"].endswith("every 40 ms")
    assert "nernet" in engine.facts["weights"]


def test_rhythms_other_than_the_trained_one_are_said(installed: None, recording: Path) -> None:
    engine = Engine(Settings(runtime="torch", device="cpu", threads=1))
    made = list(stepped(recording, engine, by="time", length_us=20_000))
    assert len(made) > FRAMES
    assert engine.facts["windows"] == "20 ms every 20 ms; trained on 20 ms every 40 ms, others may look worse"


def test_state_is_carried_and_forgotten_where_time_jumps(installed: None) -> None:
    engine = Engine(Settings(runtime="torch", device="cpu", threads=1))
    stage = EngineStage(engine)
    stage.open([StreamInfo("engine/window", SIZE)])
    random = np.random.default_rng(1)
    voxel = random.normal(size=(10, SIZE[1], SIZE[0])).astype(np.float32)

    def pictures(epoch: int, n: int) -> list[Array]:
        found = []
        for k in range(n):
            packet = Packet("engine/window", k, k, k + 1, 0, Window(k, k + 1, 9, voxel), epoch)
            found += [one.body.image for one in stage.process(packet) if isinstance(one.body, Frame)]
        return found

    first, second = pictures(0, 2), pictures(1, 2)
    assert not np.array_equal(first[0], first[1])
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_frame_whose_exposure_nobody_knows_comes_out_as_it_is_and_an_empty_window_is_a_step(installed: None) -> None:
    engine = Engine(Settings(runtime="torch", device="cpu", threads=1))
    engine.warm(SIZE)
    voxel = np.zeros((10, SIZE[1], SIZE[0]), np.float32)
    frame = Frame(np.full(SIZE[::-1], 7, np.uint8), 5)
    (passed,) = engine.infer(Window(5, 5, 0, voxel, frame=frame, flags=FrameFlag.PASSED_THROUGH))
    assert passed.flags & FrameFlag.PASSED_THROUGH
    assert np.array_equal(passed.image, frame.image)
    (dark,) = engine.infer(Window(0, 20_000, 0, voxel))
    assert (dark.t, dark.source, dark.image.shape) == (20_000, "nernet", SIZE[::-1])
    with pytest.raises(InputError, match="45x34"):
        engine.infer(Window(0, 1, 0, np.zeros((10, 4, 4), np.float32)))


def test_another_representation_takes_the_place_of_the_networks_own(installed: None, shared: Shared) -> None:
    plain, other = Engine(), Engine(Settings(representation="nernet-letc"))
    assert plain.spec.table is not None
    assert other.spec.table is not None
    rows = np.linspace(0, len(other.spec.table) - 1, 9).astype(int)
    tau = rows / (len(other.spec.table) - 1) * 4
    wanted = np.stack([tau * value(published(shared), tau - b) for b in range(5)], axis=1)
    assert np.allclose(other.spec.table[rows], wanted, atol=1e-6)
    assert np.abs(plain.spec.table - other.spec.table).max() > 0.1
    with pytest.raises(InputError, match=r"representation alone.*engine\.representation"):
        _ = Engine(Settings(weights="nernet-letc")).spec
    assert NETWORK.parameters("letc") == 16_771


def test_without_weights_the_way_to_them_and_the_way_on_are_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    for pipeline in ("rled-night", "configs/rled-night.yaml", "night"):
        with pytest.raises(InputError) as caught:
            load(pipeline, overrides=["source.path=x.h5"])
        said = str(caught.value)
        assert "rtpipe engines import nernet ner.pth" in said
        assert "engine.network=complementary" in said
        assert load(pipeline, overrides=["engine.network=complementary"]).engine is not None


def test_overrides_of_the_source_mean_the_files_first(installed: None) -> None:
    config = load("rled-night", overrides=["source.path=X.h5", "source.speed=0.5"])
    assert config.sources["camera"].plain["path"] == "X.h5"
    assert config.sources["camera"].plain["speed"] == 0.5


def test_the_engine_is_known_without_pytorch() -> None:
    code = "import sys; sys.modules['torch'] = None; import engines.nernet as n; n.Engine(); n.NETWORK.gflop((9, 9))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


@pytest.mark.slow
def test_what_the_issue_says_a_user_types(checkpoint: Path, recording: Path, tmp_path: Path) -> None:
    env = {"RTPIPE_WEIGHTS": str(tmp_path / "weights")}
    run = ("run", "configs/rled-night.yaml", f"source.path={recording}", "--headless", "--json", "source.speed=0")
    run = (*run, f"sinks.1.dir={tmp_path}", f"sinks.2.dir={tmp_path}")
    code, _, err = command_line.rtpipe(*run, env=env)
    assert code == 2
    assert "rtpipe engines import nernet ner.pth" in err
    code, text, err = command_line.rtpipe("engines", "import", "nernet", checkpoint, env=env)
    assert code == 0, err
    assert "19,364,754" in text
    code, text, err = command_line.rtpipe(*run, env=env)
    assert code == 0, err
    result = json.loads(text)
    assert result["losses"] == []
    assert result["stages"]["engine"]["windows inferred"]["passed"] == FRAMES
    (recorded,) = tmp_path.glob("*.mcap")
    with rtpipe.open(recorded) as made:
        assert len(list(made.pictures("engine/output"))) == FRAMES
    code, _, err = command_line.rtpipe(
        *run, "engine.network=complementary", env={"RTPIPE_WEIGHTS": str(tmp_path / "none")}
    )
    assert code == 0, err
    assert store.directory() != tmp_path
