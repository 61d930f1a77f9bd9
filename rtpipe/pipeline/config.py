"""Pipeline files: YAML to typed structs, with every name looked up and every impossible pair refused before a run.

A part (driver, engine, sink) keeps its own settings in its own module; here they are only found and checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from rtpipe import registry
from rtpipe.errors import ConfigError, InputError
from rtpipe.history.settings import HistorySettings
from rtpipe.load import KEYS, LoadSettings, apart, shrunk, unfit
from rtpipe.pipeline.document import Document, convert, override, parse
from rtpipe.window.settings import WindowSettings, misfit

TOP = ("sources", "history", "filters", "window", "engine", "sinks")
HISTORY = "history"
"""The history stage's name among the processes."""


@dataclass(frozen=True)
class Part:
    """A driver, filter, engine or sink by name, with its settings: ``settings`` is the module's own frozen struct."""

    name: str
    kind: str
    module: ModuleType
    settings: msgspec.Struct

    @property
    def plain(self) -> dict[str, Any]:
        """The settings as plain data, to travel to the worker."""
        data: dict[str, Any] = msgspec.to_builtins(self.settings)
        return data


@dataclass(frozen=True)
class PipelineConfig:
    """A checked pipeline: what runs and how. ``sources`` and ``sinks`` by their names in this run."""

    name: str
    sources: Mapping[str, Part]
    window: WindowSettings | None
    engine: Part | None
    sinks: Mapping[str, Part]
    history: HistorySettings | None = None
    filters: Sequence[Part] = ()
    """In front of the windows, in their order."""
    load: LoadSettings = field(default_factory=LoadSettings)
    """What happens when pictures take too long; its ``fallback`` has every setting spelled out."""


def shipped() -> dict[str, Path]:
    """The pipeline files that come with rtpipe, by name."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "configs", package.parent / "configs")
    return {file.stem: file for place in places if place.is_dir() for file in sorted(place.glob("*.yaml"))}


def find(config: str) -> Path:
    """The file that ``config`` means: a path, or the name of a shipped one. Raises ``InputError``."""
    path = Path(config)
    if path.is_file():
        return path
    files = shipped()
    name = path.name.removesuffix(".yaml")
    if name in files and (config == name or path.parent.name in ("", "configs")):
        return files[name]
    raise InputError(
        f"{config}: no such file, and no shipped pipeline of that name; shipped: {', '.join(sorted(files))}"
    )


def load(config: str, *, source: str | None = None, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read and check a pipeline file. ``source``: a recording or a driver that takes the place of the file's first
    source. Raises ``InputError`` and ``ConfigError``."""
    path = find(config)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    document = parse(text, str(path))
    if source is not None:
        document = _with_source(document, source)
    for assignment in overrides:
        spelled = _spelled(document, assignment)
        changed = override(_named_filters(document), [spelled])
        document = _another_engine(document, changed) if spelled.startswith("engine.network=") else changed
    return check(document)


def _another_engine(before: Document, after: Document) -> Document:
    """The pipeline with another network than the file's: without its weights, and without what the new one cannot be
    set to. What is given on the command line afterwards is not touched."""
    old, new = before.data.get("engine"), after.data.get("engine")
    if not (isinstance(old, dict) and isinstance(new, dict)) or old.get("network") == new.get("network"):
        return after
    if new.get("network") not in registry.names("engines"):
        return after
    fields = msgspec.structs.fields(registry.load("engines", new["network"]).Settings)
    known = {"network", *KEYS, *(field.name for field in fields)} - {"weights"}
    engine = {key: value for key, value in new.items() if key in known}
    return Document(after.name, {**after.data, "engine": engine}, after.lines)


def _with_source(document: Document, source: str) -> Document:
    sources = document.data.get("sources") or {}
    if not isinstance(sources, dict):
        raise document.error(("sources",), "a mapping of sources by name is wanted")
    name = next(iter(sources), "camera")
    given = sources.get(name)
    old = given if isinstance(given, dict) else {}
    if source in registry.names("drivers") and not Path(source).exists():
        part = {"driver": source}
    else:
        kept = {key: value for key, value in old.items() if key != "path"} if old.get("driver") == "replay" else {}
        part = {**kept, "driver": "replay", "path": source}
    return Document(document.name, {**document.data, "sources": {**sources, name: part}}, document.lines)


def _spelled(document: Document, assignment: str) -> str:
    """An override of ``source.KEY`` as one of the file's first source, whatever its name."""
    if not assignment.startswith("source."):
        return assignment
    sources = document.data.get("sources") or {}
    return f"sources.{next(iter(sources), 'camera')}.{assignment.removeprefix('source.')}"


def _named_filters(document: Document) -> Document:
    """A filter that is a mere name as the mapping that it stands for: its settings can be overridden."""
    filters = document.data.get("filters")
    if not isinstance(filters, list):
        return document
    spelled = [{"filter": item} if isinstance(item, str) else item for item in filters]
    return Document(document.name, {**document.data, "filters": spelled}, document.lines)


def check(document: Document) -> PipelineConfig:
    """The typed pipeline of a document. Raises ``ConfigError`` with file, line, key and what is allowed."""
    for key in document.data:
        if key not in TOP:
            raise document.error((key,), f"a pipeline file has no such key; allowed: {', '.join(TOP)}")
    sources = _sources(document)
    history = _history(document, sources)
    window = engine = None
    load = LoadSettings()
    if document.data.get("window") is not None:
        window = convert(document, ("window",), document.data["window"], WindowSettings, what="window")
        if window.of not in sources:
            raise document.error(("window", "of"), f"there is no source {window.of!r}; sources: {', '.join(sources)}")
        if window.frames is not None and window.frames not in sources:
            there = ", ".join(sources)
            raise document.error(("window", "frames"), f"there is no source {window.frames!r}; sources: {there}")
        if window.frames is not None and history is not None:
            raise document.error(
                ("history",), "it keeps one source, and windows with frames of another cannot be rewound: leave it out"
            )
    if document.data.get("engine") is not None:
        engine, load = _engine(document, document.data["engine"])
    filters = _filters(document, window)
    sinks = _sinks(document)
    _check_pairs(document, sources, window, engine, sinks)
    if engine is not None and window is not None:
        _check_load(document, window, engine, load)
    return PipelineConfig(Path(document.name).stem, sources, window, engine, sinks, history, filters, load)


def _sources(document: Document) -> dict[str, Part]:
    data = document.data.get("sources")
    if not isinstance(data, dict) or not data:
        raise document.error(("sources",), "at least one source is wanted, as sources: {camera: {driver: …}}")
    for name in data:
        if not str(name).isidentifier():
            raise document.error(("sources", name), "a source's name is one word of letters, digits and _")
    return {name: _part(document, ("sources", name), item, "drivers", "driver", name) for name, item in data.items()}


def _history(document: Document, sources: Mapping[str, Part]) -> HistorySettings | None:
    data = document.data.get("history")
    if data is None:
        return None
    history = convert(document, ("history",), data, HistorySettings, what="history")
    if history.of not in sources:
        raise document.error(("history", "of"), f"there is no source {history.of!r}; sources: {', '.join(sources)}")
    if HISTORY in sources:
        raise document.error(("sources", HISTORY), "with a history, no source can bear that name")
    return history


def _filters(document: Document, window: WindowSettings | None) -> list[Part]:
    data = _named_filters(document).data.get("filters") or []
    if not isinstance(data, list):
        raise document.error(("filters",), "a list of filters is wanted, as [hot_pixels, {filter: background}]")
    if data and (window is None or "events" not in window.needs):
        raise document.error(("filters",), "filters stand in front of windows of events: here there are none")
    parts = []
    for index, item in enumerate(data):
        part = _part(document, ("filters", index), item, "filters", "filter", f"filter {index}")
        try:
            part.module.Filter(part.settings)
        except InputError as error:  # a file that it needs
            raise document.error(("filters", index), f"filter {part.kind}: {error}") from error
        parts.append(part)
    return parts


def _engine(document: Document, data: Any) -> tuple[Part, LoadSettings]:
    """The engine, and the keys of its section that are the same for every engine."""
    own, common = data, {}
    if isinstance(data, dict):
        own = {key: value for key, value in data.items() if key not in KEYS}
        common = {key: value for key, value in data.items() if key in KEYS}
    engine = _part(document, ("engine",), own, "engines", "network", "engine", also=KEYS)
    load = convert(document, ("engine",), common, LoadSettings, what="engine")
    if load.fallback is None:
        return engine, load
    item, factor = dict(load.fallback), load.fallback.get("shrink", 1)
    item.pop("shrink", None)
    convert(document, ("engine", "fallback"), {"shrink": factor}, LoadSettings, what="fallback")
    part = _part(document, ("engine", "fallback"), item, "engines", "network", "fallback", also=("shrink",))
    spelled = {"network": part.kind, "shrink": factor, **part.plain}
    return engine, msgspec.structs.replace(load, fallback=spelled)


def _check_load(document: Document, window: WindowSettings, engine: Part, load: LoadSettings) -> None:
    try:
        spec = shrunk(engine.module.Engine(engine.settings), load.shrink).spec
    except InputError as error:
        raise document.error(("engine", "shrink"), str(error)) from error
    if load.fallback is not None:
        network, factor, own = apart(load.fallback)
        module = registry.load("engines", network)
        try:
            stand_in = shrunk(module.Engine(msgspec.convert(own, module.Settings)), factor)
        except InputError as error:
            raise document.error(("engine", "fallback"), str(error)) from error
        wrong = unfit(window, spec, stand_in.spec)
        if wrong:
            raise document.error(("engine", "fallback"), wrong)


def _sinks(document: Document) -> dict[str, Part]:
    data = document.data.get("sinks") or []
    if not isinstance(data, list):
        raise document.error(("sinks",), "a list of sinks is wanted, as - {sink: display}")
    sinks: dict[str, Part] = {}
    for index, item in enumerate(data):
        kind = item.get("sink") if isinstance(item, dict) else None
        name = str(kind) if kind not in sinks else f"{kind}-{index}"
        sinks[name] = _part(document, ("sinks", index), item, "sinks", "sink", name)
    return sinks


def _part(
    document: Document, path: tuple[str | int, ...], item: Any, group: str, key: str, name: str,
    also: Sequence[str] = (),
) -> Part:  # fmt: skip
    if not isinstance(item, dict) or not isinstance(item.get(key), str):
        known = ", ".join(registry.names(group))
        raise document.error(path, f"a mapping with {key}: NAME is wanted; installed: {known}")
    try:
        module = registry.load(group, item[key])
    except InputError as error:
        raise document.error((*path, key), str(error)) from error
    rest = {k: v for k, v in item.items() if k != key}
    settings = convert(document, path, rest, module.Settings, what=f"{key} {item[key]}", also=also)
    return Part(name, item[key], module, settings)


def _check_pairs(
    document: Document,
    sources: Mapping[str, Part],
    window: WindowSettings | None,
    engine: Part | None,
    sinks: Mapping[str, Part],
) -> None:
    if engine is not None and window is None:
        raise document.error(("engine",), "an engine eats windows: add a window section")
    if window is not None and engine is None:
        raise document.error(("window",), "windows are for an engine: add an engine section, or leave window out")
    if engine is not None and window is not None:
        spec = engine.module.Engine(engine.settings).spec
        wrong = misfit(window, spec)
        if wrong is not None:
            raise document.error(("window", wrong[0]), wrong[1])
    remote = any(getattr(source.module, "CARRIES_OUTPUT", False) for source in sources.values())
    for index, sink in enumerate(sinks.values()):
        wanted = set() if getattr(sink.module, "TAKES_ANY", False) else set(sink.module.wants(sink.settings))
        if engine is None and not remote and wanted & {"output", "picture"}:
            raise document.error(("sinks", index), f"{sink.kind} shows an engine's output, and there is no engine")
        if window is not None and "picture" in wanted and "events" not in window.needs:
            raise document.error(("sinks", index), f"{sink.kind} draws events, and windows by: {window.by} hold none")


def describe(config: PipelineConfig) -> dict[str, Any]:
    """The whole pipeline as plain data, every default spelled out: kept with every recording."""
    parts = {"sources": config.sources, "sinks": config.sinks}
    result: dict[str, Any] = {
        group: {name: {"kind": part.kind, **part.plain} for name, part in items.items()}
        for group, items in parts.items()
    }
    if config.history is not None:
        result["history"] = msgspec.to_builtins(config.history)
    if config.filters:
        result["filters"] = [{"kind": part.kind, **part.plain} for part in config.filters]
    if config.window is not None:
        result["window"] = msgspec.to_builtins(config.window)
    if config.engine is not None:
        result["engine"] = {"kind": config.engine.kind, **config.engine.plain, **msgspec.to_builtins(config.load)}
    return result


__all__ = ["ConfigError", "Part", "PipelineConfig", "check", "describe", "find", "load", "shipped"]
