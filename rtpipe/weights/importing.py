"""Someone's checkpoint into the store: read without running anything, recognised strictly, kept with its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from rtpipe import registry
from rtpipe.errors import InputError
from rtpipe.weights import checkpoint, store
from rtpipe.weights.learned import Learned


@dataclass(frozen=True, slots=True)
class Imported:
    """Weights that are in the store now, and whether they were ``already`` (the same file, the same properties)."""

    stored: store.Stored
    already: bool


def networks() -> dict[str, Learned]:
    """Every installed engine that has weights, by name; engines that do not import here are left out."""
    found: dict[str, Learned] = {}
    for name in registry.names("engines"):
        try:
            network = getattr(registry.load("engines", name), "NETWORK", None)
        except InputError:
            continue
        if network is not None:
            found[name] = network
    return found


def network(name: str) -> Learned:
    """The network of the engine ``name``. Raises ``InputError``: no such engine, or one that needs no weights."""
    found: Learned | None = getattr(registry.load("engines", name), "NETWORK", None)
    if found is None:
        others = ", ".join(networks()) or "none is installed"
        raise InputError(f"engine {name!r} needs no weights; those that do: {others}")
    return found


def bring(
    engine: str, path: Path, given: Mapping[str, str], name: str = "", overwrite: bool = False, now: str = ""
) -> Imported:
    """Import the checkpoint ``path`` for ``engine``; ``given`` are properties that the user states, ``now`` the date to
    note (without it: today's). Raises ``InputError``, in two lines, for what is not that network's checkpoint."""
    wanted = network(engine)
    found = checkpoint.read(path)
    try:
        tensors, properties = wanted.recognise(found.tensors, {**found.config, "file": found.file}, given)
    except InputError as error:
        raise InputError(f"{path}: {error}{_rather(engine, found, path)}") from error
    ignored = [key for key in given if key not in properties.values and key != "variant"]
    if ignored:
        known = ", ".join(sorted(properties.values)) or "none"
        raise InputError(f"--set {ignored[0]}: {engine} has no such property; it has: {known}")
    provenance = {
        "file": found.file.encode("utf-8", "replace").decode("utf-8"),
        "sha256": found.sha256,
        "imported": now or datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "read_by": found.read_by,
    }
    licence = next((each.licence for each in wanted.published if each.name == store.name_of(properties)), "")
    if licence:
        provenance["licence"] = licence
    target = store.path_of(name or store.name_of(properties))
    if target.exists() and not overwrite:
        there = _readable(target)
        same = there and there.provenance.get("sha256") == found.sha256 and there.properties == properties
        if there and same:
            return Imported(there, already=True)
    return Imported(store.save(tensors, properties, provenance, name=name, overwrite=overwrite), already=False)


def _readable(path: Path) -> store.Stored | None:
    try:
        return store.load(path)
    except InputError:
        return None


def _rather(engine: str, found: checkpoint.Checkpoint, path: Path) -> str:
    """What to type instead, where another network knows the checkpoint."""
    for name, other in networks().items():
        if name != engine:
            try:
                other.recognise(found.tensors, {**found.config, "file": found.file}, {})
            except InputError:
                continue
            return f"\nit is one of {name}: rtpipe engines import {name} {path}"
    return ""
