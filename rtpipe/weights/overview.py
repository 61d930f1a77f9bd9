"""Every engine at a glance: what it costs, which weights are here, what can compute it on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from rtpipe import registry
from rtpipe.errors import InputError
from rtpipe.types import Resolution
from rtpipe.weights import store
from rtpipe.weights.learned import Learned, Published


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of a network: those in the store (``found``), else a published checkpoint and ``get``, how to have it.
    ``parameters`` and ``gflop`` are None where the network does not know the variant."""

    name: str
    found: bool
    parameters: int | None
    gflop: float | None
    get: str = ""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime on this machine: on which ``devices`` it runs, or ``why`` on none."""

    name: str
    version: str
    devices: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine: what it is in a line, its weights (none: ``model_free``), the names of the ``runtimes`` that can
    compute it here as ``NAME on DEVICE``, and ``problem`` where it cannot be used at all."""

    name: str
    what: str
    model_free: bool
    weights: tuple[Weights, ...]
    runtimes: tuple[str, ...]
    problem: str = ""


def runtimes() -> tuple[Runtime, ...]:
    """Every runtime that is known here, usable or not. Imports them: blocks for seconds."""
    return tuple(
        Runtime(each.runtime, each.version, tuple(each.devices), each.why)
        for name in registry.names("runtimes")
        for each in registry.load("runtimes", name).availability()
    )


def entries(size: Resolution, there: Iterable[Runtime]) -> tuple[Entry, ...]:
    """Every installed engine, by name, its cost at ``size``; ``there`` are this machine's :func:`runtimes`."""
    there, kept = tuple(there), store.listed()
    return tuple(_entry(name, size, there, kept) for name in registry.names("engines"))


def _entry(name: str, size: Resolution, there: tuple[Runtime, ...], kept: tuple[store.Listed, ...]) -> Entry:
    try:
        module = registry.load("engines", name)
    except InputError as error:
        return Entry(name, "", False, (), (), str(error))
    network: Learned | None = getattr(module, "NETWORK", None)
    if network is None:
        return Entry(name, _what(module), True, (), ("numba on cpu",))
    able = getattr(network, "runtimes", None)
    ways = tuple(
        f"{each.name} on {device}" for each in there if able is None or each.name in able for device in each.devices
    )
    mine = [each for each in kept if each.properties and each.properties.network == network.name]
    weights = [
        Weights(each.name, True, *_cost(network, size, each.properties.variant)) for each in mine if each.properties
    ]
    absent = [each for each in network.published if each.name not in {found.name for found in mine}]
    for each in absent:
        variant = each.name.removeprefix(network.name).removeprefix("-")
        weights.append(Weights(each.name, False, *_cost(network, size, variant), how_to_get(network, each)))
    if not weights:
        weights.append(Weights("", False, *_cost(network, size, ""), f"rtpipe engines import {name} FILE"))
    return Entry(name, _what(module), False, tuple(weights), ways)


def how_to_get(network: Learned, published: Published) -> str:
    """The command that brings a published checkpoint in, once its file is here."""
    return " ".join(filter(None, ("rtpipe engines import", network.name, published.file)))


def _what(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0] if (module.__doc__ or "").strip() else ""


def _cost(network: Learned, size: Resolution, variant: str) -> tuple[int | None, float | None]:
    try:
        return network.parameters(variant), network.gflop(size, variant)
    except (InputError, KeyError, ValueError):
        return None, None
