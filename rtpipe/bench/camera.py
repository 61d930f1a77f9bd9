"""How many events of a live camera this machine keeps: a camera that is none, at any rate, through ``rtpipe run``.

An EVK4's EVT3 bytes and a DVXplorer's bursts, made in advance, come through the real driver, over the real sockets,
into the recorder, or into decoded voxel grids; nothing is scaled down. What is dropped is dropped by name, and
everything is counted: taken = kept + dropped. Then the highest rate without loss is sought, by halving.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rtpipe.bench.row import Row
from rtpipe.errors import WorldError

EVK4_MEV_S, BURST_MEV_S = 100.0, 165.0
SEARCH_S, SEARCH_STEPS = 4.0, 5
HIGHEST_MEV_S = 400.0
START_S = 120.0
BYTES_PER_EVENT = 3.0
"""Of a recording, at the most, to see whether the disk has room."""

RECORD, WINDOW = "raw bytes to the recorder", "decoded into voxel grids"
BURSTS = "bursts of 0.1 s each second into voxel grids"
_EVK4 = "sources:\n  camera: {driver: evk4, backend: load, raw: true}\n"
_DVXPLORER = "sources:\n  camera: {driver: dvxplorer, backend: load}\n"
_RECORD = "sinks:\n  - {sink: record, dir: FOLDER, name: run}\n"
_WINDOW = "window: {of: camera, by: time, length_us: 20000, mode: edges}\nengine: {network: bench-null}\n"
_PIPELINES = {RECORD: _EVK4 + _RECORD, WINDOW: _EVK4 + _WINDOW, BURSTS: _DVXPLORER + _WINDOW}


@dataclass(frozen=True)
class Load:
    """What became of the events of one run, from when everything was ready: ``taken`` from the camera by the driver,
    ``kept``: delivered to their end, ``dropped`` in between by place and reason; ``ring``: events in transfers that the
    camera's ring lost, by reason, by the average of a transfer; ``memory_mb``: most resident memory by process."""

    mev_s: float
    taken: int
    kept: int
    dropped: Mapping[str, int]
    ring: Mapping[str, int]
    memory_mb: Mapping[str, float]

    @property
    def unnamed(self) -> int:
        """Taken, but neither kept nor dropped by name: 0, or there is a bug."""
        return self.taken - self.kept - sum(self.dropped.values())


def run(what: str, mev_s: float, seconds: float) -> Load:
    """One pipeline (:data:`RECORD`, :data:`WINDOW`, :data:`BURSTS`) for about ``seconds`` at ``mev_s``. Raises
    ``WorldError`` where it does not run."""
    with tempfile.TemporaryDirectory(prefix="rtpipe-bench-") as name:
        folder = Path(name)
        log = folder / "made.json"
        environment = _environment(folder, "DVXplorer" if what == BURSTS else "EVK4", mev_s, log)
        file = folder / "pipeline.yaml"
        file.write_text(_PIPELINES[what].replace("FOLDER", str(folder)))
        command = [sys.executable, "-m", "rtpipe", "run", str(file), "--json"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            try:
                memory = _watch(process, seconds, environment)
                process.terminate()
                out, err = process.communicate(timeout=120)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0 or not out.strip():
            raise WorldError(f"bench camera: the run failed: {(err or out).strip()[-300:]}")
        return _account(mev_s, msgspec.json.decode(out), msgspec.json.decode(log.read_bytes()), memory)


def measure(
    seconds: float = 60.0, mev_s: float = EVK4_MEV_S, say: Callable[[str], None] = lambda _: None
) -> Sequence[Row]:
    """The load for ``seconds`` each, and the highest rates without loss. ``say`` is told what is being done. Raises
    ``WorldError`` where the cameras' package is not installed or a run fails."""
    rows: list[Row] = []
    for what, rate in ((RECORD, mev_s), (WINDOW, mev_s), (BURSTS, BURST_MEV_S)):
        lasting = seconds if what != RECORD else min(seconds, _room_s(rate))
        say(f"{what}, {rate:g} Mev/s for {lasting:.0f} s")
        rows.append(_row(what, run(what, rate, lasting), lasting))
    for what in (RECORD, WINDOW):
        say(f"{what}: the highest rate without loss")
        best, step = highest(lambda rate, what=what: not _lossy(run(what, rate, min(SEARCH_S, seconds))))  # type: ignore[misc]
        note = f"{min(SEARCH_S, seconds):g} s at a time, to {step:.0f} Mev/s"
        rows.append(Row("sustained without loss", what, "EVK4, EVT3 1280x720", best, note=note))
    return rows


def highest(keeps_up: Callable[[float], bool], most: float = HIGHEST_MEV_S) -> tuple[float, float]:
    """The highest rate at which ``keeps_up``, and how exactly that is known, by halving; 0 where there is none."""
    low, high = 0.0, most
    if keeps_up(most):
        return most, 0.0
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps_up(middle) else (low, middle)
    return low, high - low


def _room_s(mev_s: float) -> float:
    """How long a recording at this rate may get: half of what is free."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return max(1.0, free / 2 / (mev_s * 1e6 * BYTES_PER_EVENT))


def _environment(folder: Path, model: str, mev_s: float, log: Path) -> dict[str, str]:
    """The camera and the engine, made known to the run as a package that is installed in ``folder`` would be."""
    about = folder / "rtpipe_bench_camera-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: rtpipe-bench-camera\nVersion: 0\n")
    (about / "entry_points.txt").write_text(
        "[rtpipe.backends]\nload = drivers.backends.load\n[rtpipe.engines]\nbench-null = rtpipe.bench.null_engine\n"
    )
    told = msgspec.json.encode({"model": model, "mev_s": mev_s, "log": str(log)}).decode()
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    runtime = folder / "r"
    runtime.mkdir()
    return {**os.environ, "PYTHONPATH": paths, "RTPIPE_BENCH_CAMERA": told, "XDG_RUNTIME_DIR": str(runtime)}


def _watch(process: subprocess.Popen[str], seconds: float, environment: Mapping[str, str]) -> dict[str, float]:
    """Wait until events flow, then for ``seconds``; the most memory that each process had while they did."""
    until = time.monotonic() + START_S
    while process.poll() is None and not _flowing(environment):
        if time.monotonic() > until:
            raise WorldError("bench camera: nothing flowed within two minutes")
        time.sleep(0.2)
    memory: dict[str, float] = {}
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        for name, size in _resident(process.pid).items():
            memory[name] = max(memory.get(name, 0.0), size)
        time.sleep(0.1)
    return memory


def _flowing(environment: Mapping[str, str]) -> bool:
    """Whether some consumer has events."""
    command = [sys.executable, "-m", "rtpipe", "control", "status"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    if done.returncode:
        return False
    workers = msgspec.json.decode(done.stdout)["workers"].values()
    received = [each for worker in workers if worker for each in worker["received"]]
    return any(each["processed"]["events"] for each in received)


def _resident(parent: int) -> dict[str, float]:
    """Resident memory (MB) of a run's processes, by what they are called in it."""
    names = {str(parent): "run"}
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in _read(task).split():
            last = next((word for word in reversed(_read(Path(f"/proc/{pid}/cmdline")).split("\0")) if word), pid)
            names[pid] = Path(last).stem
    found = {}
    for pid, name in names.items():
        for line in _read(Path(f"/proc/{pid}/status")).splitlines():
            if line.startswith("VmRSS:"):
                found[name] = int(line.split()[1]) / 1024
    return found


def _read(path: Path) -> str:
    """A file of /proc; empty where its process has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _account(mev_s: float, result: Mapping[str, Any], made: Mapping[str, int], memory: Mapping[str, float]) -> Load:
    """What the run's own ledger says."""
    camera = result["stages"]["camera"]
    dropped: Counter[str] = Counter()
    for name, flow in camera.items():
        if name == "events" or name.startswith("filter"):
            dropped.update({f"camera: {reason}": n for reason, n in flow["dropped"].items()})
    [edge] = result["edges"].values()
    dropped.update({f"on the way: {reason}": counts["events"] for reason, counts in edge["dropped"].items()})
    ring = {reason: n for reason, n in camera["transfers"]["dropped"].items() if n}
    each = made["events"] / max(1, made["transfers"])
    return Load(
        mev_s, camera["events"]["taken"], edge["delivered"]["events"], {k: n for k, n in dropped.items() if n},
        {reason: round(n * each) for reason, n in ring.items()}, memory,
    )  # fmt: skip


def _lossy(load: Load) -> bool:
    return bool(load.dropped or load.ring)


def _row(what: str, load: Load, seconds: float) -> Row:
    whole = load.taken + sum(load.ring.values())
    lost = {**{f"{reason} (about)": n for reason, n in load.ring.items()}, **load.dropped}
    parts = [f"kept {100 * load.kept / max(1, whole):.1f} % of {whole / 1e6:.0f} million events"]
    parts += [f"{reason} {100 * n / max(1, whole):.1f} %" for reason, n in sorted(lost.items(), key=lambda e: -e[1])]
    parts.append(f"without a name {load.unnamed}")
    parts.append("memory " + ", ".join(f"{name} {size:.0f} MB" for name, size in load.memory_mb.items()))
    given = f"{'DVXplorer 640x480' if what == BURSTS else 'EVK4 1280x720'} at {load.mev_s:g} Mev/s, {seconds:.0f} s"
    share = load.kept / max(1, whole)
    note = "; ".join(parts)
    if what == BURSTS:
        return Row(what, "rtpipe", given, 100 * share, unit="% kept", note=note)
    return Row(what, "rtpipe", given, load.mev_s * share, note=note)
