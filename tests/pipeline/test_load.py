"""A pipeline whose engine is too slow: run as a user runs it, with an engine of the test's own."""

import json
import os
from importlib import metadata
from itertools import pairwise

import pytest

from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.pipeline.config import describe, load
from rtpipe.types import FrameFlag
from tests.pipeline.command_line import rtpipe
from tests.pipeline.recording import make

SLOW = """
import time
import msgspec
import numpy as np
from rtpipe.stage import EngineSpec
from rtpipe.types import Frame

class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    takes_ms: float = 150.0
    representation: str = "count"

class Engine:
    def __init__(self, settings):
        self.settings = settings
        self.spec = EngineSpec("slow", settings.representation, needs_frame=False, stateful=True)

    def warm(self, resolution):
        self.size = resolution

    def reset(self):
        pass

    def infer(self, window):
        time.sleep(self.settings.takes_ms / 1e3)
        return [Frame(np.full(self.size[::-1], 99, np.uint8), window.t_end, source="slow")]
"""
LIVE = """\
sources:
  camera: {{driver: synthetic, rate_mev_s: 0.05, seconds: 2, width: 64, height: 48}}
window: {{of: camera, by: time, length_us: 20000}}
engine: {{network: slow{engine}}}
sinks:
  - {{sink: record, dir: {out}, name: run, streams: [output]}}
"""
REPLAY = """\
sources:
  camera: {{driver: replay, path: {source}, speed: 0}}
window: {{of: camera, by: time, length_us: 20000}}
engine: {{network: slow, takes_ms: 60{engine}}}
sinks:
  - {{sink: record, dir: {out}, name: run, streams: [output]}}
"""


@pytest.fixture
def slow_engine(tmp_path, monkeypatch):
    """Another package's engine, found as any installed one is: by its entry point."""
    package = tmp_path / "package"
    info = package / "slow_engine-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "slow_engine.py").write_text(SLOW)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rtpipe.engines]\nslow = slow_engine\n")
    return {"PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])}


def run(tmp_path, env, text, engine="", **more):
    path = tmp_path / "pipeline.yaml"
    path.write_text(text.format(out=tmp_path, engine=engine, **more))
    code, out, err = rtpipe("run", path, "--json", env=env)
    assert code == 0, err
    result = json.loads(out)
    assert result["losses"] == []
    with open_recording(tmp_path / "run.mcap") as recorded:
        pictures = list(recorded.pictures("engine/output"))
    said = {fact["fact"]: fact["value"] for fact in result["facts"] if fact["of"] == "engine"}
    return result, result["stages"]["engine"]["windows inferred"], pictures, said


def test_a_live_camera_is_kept_up_with(tmp_path, slow_engine):
    result, windows, pictures, said = run(tmp_path, slow_engine, LIVE)
    assert windows["dropped"] == {"skipped": windows["taken"] - windows["passed"]}
    assert windows["taken"] >= 90
    assert len(pictures) == windows["passed"] < windows["taken"] / 2
    marked = [bool(picture.flags & FrameFlag.SKIPPED_BEFORE) for picture in pictures]
    gaps = [later.t - earlier.t > 20_000 for earlier, later in pairwise(pictures)]
    assert marked[1:] == gaps
    assert said["skipped"].startswith(f"{windows['dropped']['skipped']} of {windows['taken']} (waited over 40 ms)")
    waiting_would_cost_ms = windows["taken"] * 150 - 2000
    assert result["edges"]["engine->record"]["latency"]["p99_us"] / 1e3 < waiting_would_cost_ms / 4


def test_a_lighter_engine_stands_in_on_other_windows_than_the_network_takes(tmp_path, slow_engine):
    stand_in = ", takes_ms: 200, fallback: {network: leaky}"
    _, windows, pictures, said = run(tmp_path, slow_engine, LIVE, stand_in)
    assert windows["dropped"] == {}
    sources = [picture.source for picture in pictures]
    assert len(sources) == windows["taken"] == windows["passed"]
    assert set(sources) == {"slow", "leaky"}
    assert said["late"] == f"{sources.count('leaky')} of {len(sources)}, made by leaky"


@pytest.mark.slow
def test_a_recording_waits_unless_told_otherwise(tmp_path, slow_engine):
    source = make(tmp_path / "source.h5")
    _, windows, pictures, said = run(tmp_path, slow_engine, REPLAY, source=source)
    assert windows["dropped"] == {}
    assert len(pictures) == windows["taken"] >= 9
    assert "skipped" not in said
    for old in tmp_path.glob("run*"):
        old.unlink()
    _, windows, pictures, said = run(tmp_path, slow_engine, REPLAY, ", late: skip, budget_ms: 30", source=source)
    assert windows["dropped"]["skipped"] > 0
    assert len(pictures) == windows["passed"]
    assert "waited over 30 ms" in said["skipped"]


@pytest.mark.slow
def test_a_smaller_size_is_said_and_pictures_still_fit(tmp_path, slow_engine):
    _, _, pictures, said = run(tmp_path, slow_engine, LIVE, ", takes_ms: 1, shrink: 4")
    assert {picture.resolution for picture in pictures} == {(64, 48)}
    assert said["size"] == "16x12 enlarged"


EDI = """\
sources:
  camera: {driver: synthetic, frames_hz: 20}
window: {of: camera, by: exposure}
engine: {network: edi, ENGINE}
sinks: []
"""


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("latte: skip", ["pipeline.yaml:4", "engine.latte", "contrast", "late", "budget_ms", "fallback"]),
        ("late: maybe", ["pipeline.yaml:4", "engine.late", "maybe"]),
        ("budget_ms: 0", ["engine.budget_ms"]),
        ("shrink: 9", ["engine.shrink"]),
        ("shrink: 2", ["engine.shrink", "edi", "filter downsample"]),
        ("fallback: edi", ["engine.fallback"]),
        ("fallback: {network: nothing}", ["engine.fallback.network", "nothing", "leaky"]),
        ("fallback: {network: leaky, strength: 3}", ["engine.fallback.strength", "shrink"]),
        ("fallback: {network: leaky, shrink: 2}", ["engine.fallback", "leaky", "filter downsample"]),
        ("fallback: {network: leaky, shrink: 0}", ["engine.fallback.shrink"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path, engine, words):
    path = tmp_path / "pipeline.yaml"
    path.write_text(EDI.replace("ENGINE", engine))
    with pytest.raises(InputError) as caught:
        load(str(path))
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_fallback_must_take_the_windows_that_there_are(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(EDI.replace("by: exposure", "by: time, length_us: 1000").replace("edi, ENGINE", "leaky, ENGINE"))
    with pytest.raises(InputError, match=r"engine.fallback: .*camera's frame"):
        load(str(path), overrides=["engine={network: leaky, fallback: {network: edi}}"])


def test_every_setting_of_the_policy_is_kept_with_a_recording(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(EDI.replace("ENGINE", "budget_ms: 25, fallback: {network: complementary, frames: true}"))
    engine = describe(load(str(path)))["engine"]
    assert (engine["kind"], engine["late"], engine["budget_ms"], engine["shrink"]) == ("edi", "auto", 25, 1)
    assert engine["fallback"]["network"] == "complementary"
    assert engine["fallback"]["frames"] is True
    assert engine["fallback"]["clean"] == 2.0


def test_no_engine_has_a_setting_that_the_policy_hides():
    import msgspec

    from rtpipe import registry
    from rtpipe.load import KEYS

    for point in metadata.entry_points(group="rtpipe.engines"):
        own = {field.name for field in msgspec.structs.fields(registry.load("engines", point.name).Settings)}
        assert not own & {*KEYS, "network"}, point.name
