"""From a checked pipeline to processes and edges: who binds, who connects, and how packets are delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from rtpipe.errors import ConfigError
from rtpipe.pipeline.config import HISTORY, PipelineConfig
from rtpipe.pipeline.messages import InputPlan, WorkerPlan
from rtpipe.types import KINDS
from rtpipe.window.settings import WindowSettings

ENGINE = "engine"
CAMERA_KINDS = tuple(kind for kind in KINDS if kind not in ("output", "picture"))
MAX_IPC_PATH = 107


def plan(config: PipelineConfig, directory: Path, notes: dict[str, str] | None = None) -> list[WorkerPlan]:
    """One worker per source, one for the history, one for windows and engine, one per sink; their endpoints are sockets
    in ``directory``.

    The order is that of the data: producers first. Raises ``ConfigError`` where the directory's name is too long.
    """
    control = endpoint(directory, "control")
    live = any(part.module.Driver.live for part in config.sources.values())
    edges = _edges(config)

    def inputs(consumer: str) -> list[InputPlan]:
        return [
            InputPlan(producer, endpoint(directory, producer), kinds, delivery)
            for producer, name, kinds, delivery in edges
            if name == consumer
        ]

    def consumers(producer: str) -> list[str]:
        return [name for source, name, _, _ in edges if source == producer]

    def worker(name: str, role: str, part: str, settings: dict[str, Any], **more: Any) -> WorkerPlan:
        bound = endpoint(directory, name) if role != "sink" else None
        return WorkerPlan(
            name, role, part, settings, control, live, bound, inputs(name), consumers(name), notes=notes or {}, **more
        )

    workers = [worker(name, "driver", part.kind, part.plain) for name, part in config.sources.items()]
    if config.history is not None:
        workers.append(worker(HISTORY, "history", HISTORY, msgspec.to_builtins(config.history)))
    if config.engine is not None and config.window is not None:
        picture = any("picture" in sink.module.wants(sink.settings) for sink in config.sinks.values())
        window = msgspec.to_builtins(config.window)
        filters = [{"filter": part.kind, **part.plain} for part in config.filters]
        load = msgspec.to_builtins(config.load)
        more = {"window": window, "picture": picture, "filters": filters, "load": load}
        workers.append(worker(ENGINE, "engine", config.engine.kind, config.engine.plain, **more))
    workers += [worker(name, "sink", part.kind, part.plain) for name, part in config.sinks.items()]
    return workers


def endpoint(directory: Path, name: str) -> str:
    """The ipc endpoint of ``name`` in a run's directory."""
    path = directory / f"{name}.sock"
    if len(str(path).encode()) > MAX_IPC_PATH:
        raise ConfigError(f"{path}: too long for a socket's path ({MAX_IPC_PATH} bytes); set XDG_RUNTIME_DIR shorter")
    return f"ipc://{path}"


def _edges(config: PipelineConfig) -> list[tuple[str, str, list[str], str]]:
    """(producer, consumer, kinds, delivery) of every edge."""
    edges: list[tuple[str, str, list[str], str]] = []
    behind: dict[str, str] = {}
    if config.history is not None:
        edges.append((config.history.of, HISTORY, list(CAMERA_KINDS), "every"))
        behind = {config.history.of: HISTORY}
    if config.engine is not None and config.window is not None:
        edges += [(behind.get(source, source), ENGINE, kinds, "every") for source, kinds in _eaten(config.window)]
    joined = {config.window.of, config.window.frames} if config.window is not None and config.window.frames else set()
    for name, sink in config.sinks.items():
        wanted = list(dict.fromkeys(sink.module.wants(sink.settings)))
        # Where there is no engine here, a source may carry what one made elsewhere.
        camera = [kind for kind in wanted if kind in CAMERA_KINDS or config.engine is None]
        made = [kind for kind in wanted if kind not in camera]
        if camera:
            direct = getattr(sink.module, "DIRECT", False)
            for source in config.sources:
                kinds = camera if direct or source not in joined else [kind for kind in camera if kind != "frames"]
                if kinds:
                    edges.append((source if direct else behind.get(source, source), name, kinds, sink.module.DELIVERY))
            if not direct and joined and "frames" in camera:
                made.append("frames")  # as they were joined to the events, on their clock
        if made and config.engine is not None:
            edges.append((ENGINE, name, made, sink.module.DELIVERY))
    return edges


def _eaten(window: WindowSettings) -> list[tuple[str, list[str]]]:
    """(source, kinds) of what windows are cut from."""
    kinds = list(window.needs)
    if window.frames is None:
        return [(window.of, kinds)]
    own = [kind for kind in kinds if kind != "frames"]
    by_signal = window.join is None or window.join.clocks in ("auto", "trigger")
    return [(window.of, [*own, "triggers"] if by_signal else own), (window.frames, ["frames"])]
