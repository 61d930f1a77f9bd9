"""Kept plans: found by all that they depend on, whole or not at all, whoever writes at the same time or is killed."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.runtime import plans
from engines.runtime.graph import Graph, Port
from tests.engines.runtime.recurrent import graph

PLAN = bytes(range(256)) * 40
FACTS = {"library": "TensorRT 10.3.0", "gpu": "Orin", "seconds": "61.5"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rtpipe" / "tensorrt"


def key(size: tuple[int, int] = (37, 26), **other: object) -> plans.Key:
    made = plans.key_of(graph(*size), b"an ONNX file", "fp16", "tensorrt", "10.3.0", "Orin (nvgpu)", (8, 7))
    return replace(made, **other)


def kept() -> plans.Key:
    made = key()
    assert plans.keep(made.path, made.digest, PLAN, FACTS)
    return made


def test_what_was_kept_is_found_with_what_is_said_of_it(own_cache: Path) -> None:
    made = kept()
    found = plans.read(made.path, made.digest)
    assert found == plans.Kept(PLAN, FACTS)
    assert [path.name for path in own_cache.iterdir()] == [f"recurrent-37x26-fp16-{made.digest}.plan"]
    assert plans.read(key((38, 26)).path, key((38, 26)).digest) is None


def test_the_key_is_of_all_that_a_plan_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    base = key()
    others = [
        key((38, 26)),
        replace(base, onnx=hashlib.sha256(b"another").hexdigest()),
        replace(base, weights="others"),
        replace(base, network="another"),
        replace(base, precision="fp32"),
        replace(base, library="tensorrt_rtx"),
        replace(base, version="10.3.1"),
        replace(base, gpu="Orin NX"),
        replace(base, capability=(8, 9)),
        replace(base, shapes=base.shapes[::-1]),
    ]
    assert len({one.digest for one in (base, *others)}) == len({one.path for one in (base, *others)}) == 11
    assert key().digest == base.digest
    assert len({replace(base, version=version).timing for version in ("10.3.0", "10.3.1")}) == 2
    assert replace(base, network="another").timing == base.timing
    before = base.digest
    monkeypatch.setattr(plans, "LAYOUT", plans.LAYOUT + 1)
    assert base.digest != before


def test_a_voxel_with_its_bins_innermost_names_its_size_too() -> None:
    port = Port("voxel", (260, 346, 10))
    made = plans.key_of(Graph("ner/net", (port,), (), (), "w"), b"", "fp32", "tensorrt", "11.4", "H200", (9, 0))
    assert made.path.name.startswith("ner_net-346x260-fp32-")
    assert made.kernels.suffix == ".kernels"
    assert made.kernels.stem == made.path.stem


def test_a_plan_of_another_gpu_or_version_is_not_taken_even_under_the_right_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As when a cache was copied from one machine to another and renamed."""
    made = kept()
    for other in (key(gpu="RTX 4090", capability=(8, 9)), key(version="10.7.0")):
        other.path.write_bytes(made.path.read_bytes())
        assert plans.read(other.path, other.digest) is None
        assert "not what it should be, and will be made anew" in caplog.text
        caplog.clear()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flipped_bit_and_no_cut_is_ever_loaded(data: st.DataObject) -> None:
    made = kept()
    whole = made.path.read_bytes()
    if data.draw(st.booleans(), label="cut"):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 400))
        damaged = bytes([*whole[:at], whole[at] ^ (1 << data.draw(st.integers(0, 7))), *whole[at + 1 :]])
    made.path.write_bytes(damaged)
    assert plans.read(made.path, made.digest) is None
    made.path.write_bytes(whole)
    assert plans.read(made.path, made.digest) is not None


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff" * 5000, b"rtpipe plan 1 " + b"0" * 64 + b"\n{}\n", b"rtpipe plan 1 " + b"\n" * 300]
)
def test_what_never_was_a_plan_is_not_taken(content: bytes) -> None:
    made = key()
    made.path.parent.mkdir(parents=True)
    made.path.write_bytes(content)
    assert plans.read(made.path, made.digest) is None


@pytest.mark.parametrize("line", [b"[]", b"{}", b'{"key":"K","size":5,"facts":{},"more":1}', b"\xff\xfe", b"{" * 3000])
def test_a_right_checksum_over_wrong_facts_is_not_taken(line: bytes) -> None:
    made = key()
    made.path.parent.mkdir(parents=True)
    digest = hashlib.sha256(line + b"\nhello").hexdigest().encode()
    made.path.write_bytes(plans.MAGIC + digest + b"\n" + line + b"\nhello")
    assert plans.read(made.path, made.digest) is None


def test_a_cache_that_cannot_be_written_is_said_and_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    made = key()
    assert not plans.keep(made.path, made.digest, PLAN)
    assert "cannot be kept, and will be made each time" in caplog.text
    assert plans.read(made.path, made.digest) is None
    with plans.one_builder(lambda: None):
        pass


def test_a_file_that_cannot_be_read_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    made = key()
    made.path.mkdir(parents=True)
    assert plans.read(made.path, made.digest) is None
    assert "cannot be read and will be made anew" in caplog.text
    assert not plans.keep(made.path, made.digest, PLAN)
    assert [path.name for path in made.path.parent.iterdir()] == [made.path.name], "no part file stays behind"


def test_facts_that_would_not_be_read_again_are_refused() -> None:
    with pytest.raises(ValueError, match="65536 at most"):
        plans.keep(key().path, key().digest, PLAN, {"long": "x" * plans.FACTS_LIMIT})


def test_what_a_killed_process_left_behind_is_swept_away_later(own_cache: Path) -> None:
    own_cache.mkdir(parents=True)
    old, new = own_cache / "a.plan.1-1.part", own_cache / "b.plan.2-2.part"
    old.write_bytes(b"half")
    new.write_bytes(b"being written")
    os.utime(old, (time.time() - 2 * plans.ABANDONED_S,) * 2)
    kept()
    assert not old.exists()
    assert new.exists()


WRITER = """
    import sys
    from engines.runtime import plans
    from tests.engines.runtime.test_plans import key
    made = key()
    print("ready", flush=True)
    sys.stdin.readline()
    for round in range(int(sys.argv[2])):
        data = bytes([ord(sys.argv[1])]) * (200_000 + 1000 * round + ord(sys.argv[1]))
        assert plans.keep(made.path, made.digest, data)
"""


def writer(name: str, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), name, str(rounds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_that_write_at_once_leave_a_whole_plan_at_every_moment() -> None:
    """Read without pause while they write: what is there is one's or the other's, never a mixture."""
    made = kept()
    writers = [writer("a", 60), writer("b", 60)]
    for one in writers:
        assert one.stdout.readline() == "ready\n"
    for one in writers:
        one.stdin.write("go\n")
        one.stdin.flush()
    seen = set()
    while any(one.poll() is None for one in writers):
        found = plans.read(made.path, made.digest)
        assert found is not None
        assert found.data == PLAN or len(set(found.data)) == 1
        seen.add(found.data[:1])
    assert [one.wait() for one in writers] == [0, 0]
    assert len(seen) >= 2
    for one in writers:
        one.stdin.close()
        one.stdout.close()


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_plan(caplog: pytest.LogCaptureFixture) -> None:
    made = kept()
    caplog.set_level(logging.WARNING)
    for kill in range(12):
        with writer("a", 100_000) as one:
            one.stdout.readline()
            one.stdin.write("go\n")
            one.stdin.flush()
            time.sleep(0.02 + 0.011 * kill)
            one.send_signal(signal.SIGKILL)
            one.wait()
            found = plans.read(made.path, made.digest)
        assert found is not None
        assert found.data == PLAN or len(set(found.data)) == 1
    assert "damaged" not in caplog.text


BUILDER = """
    import sys
    from engines.runtime import plans
    with plans.one_builder(lambda: print("waiting", flush=True)):
        print("building", flush=True)
        sys.stdin.readline()
"""


def builder() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BUILDER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("how", ["done", "killed"])
def test_one_builds_at_a_time_and_a_killed_one_holds_up_nobody(how: str) -> None:
    with builder() as first, builder() as second:
        said = {first.stdout.readline(): first, second.stdout.readline(): second}
        assert set(said) == {"building\n", "waiting\n"}
        holder, waiter = said["building\n"], said["waiting\n"]
        if how == "done":
            holder.stdin.write("\n")
            holder.stdin.flush()
        else:
            holder.kill()
        assert waiter.stdout.readline() == "building\n"
        waiter.stdin.write("\n")
        waiter.stdin.flush()
        assert waiter.wait(10) == 0
