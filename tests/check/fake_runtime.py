"""Runtimes as the check meets them: TensorRT played by ONNX Runtime on the processor, right or wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.runtime import choose
from engines.runtime import onnxruntime as real
from engines.runtime.graph import Graph
from rtpipe.types import Array

Spoil = Callable[[int, Sequence[Array]], Sequence[Array]]
"""From the number of a step since the last reset and its outputs, what the runtime gives instead."""


class Spoilt:
    """A session whose outputs go through ``spoil``; ``forgets``: states are zero at every step; ``remembers``: a reset
    does nothing."""

    def __init__(self, graph: Graph, spoil: Spoil, forgets: bool, remembers: bool) -> None:
        self._inner = real.open(graph, "cpu", "fp32", 1, lambda text: None)
        self._spoil, self._forgets, self._remembers, self._step = spoil, forgets, remembers, 0
        self.facts: Mapping[str, str] = {"graph": "captured"}

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        if self._forgets:
            self._inner.reset()
        made = self._spoil(self._step, [np.array(one) for one in self._inner.run(inputs)])
        self._step += 1
        return made

    def reset(self) -> None:
        if not self._remembers:
            self._inner.reset()

    def close(self) -> None:
        self._inner.close()


class Overlapping(Spoilt):
    """One that takes the next step's inputs while this one is computed; ``mixes``: it gives them in the wrong order."""

    def __init__(self, *given: Any, mixes: bool) -> None:
        super().__init__(*given)
        self._mixes = mixes
        self._under_way: list[Sequence[Array]] = []

    def begin(self, inputs: Sequence[Array]) -> None:
        assert len(self._under_way) < 2
        self._under_way.append([np.array(one) for one in self.run(inputs)])

    def end(self) -> Sequence[Array]:
        return self._under_way.pop(-1 if self._mixes else 0)


def as_it_is(step: int, outputs: Sequence[Array]) -> Sequence[Array]:
    return outputs


def rounded(step: int, outputs: Sequence[Array]) -> Sequence[Array]:
    """As half precision leaves them."""
    return [one.astype(np.float16).astype(np.float32) for one in outputs]


def install(
    monkeypatch: pytest.MonkeyPatch,
    spoil: Spoil = as_it_is,
    *,
    forgets: bool = False,
    remembers: bool = False,
    fails: Exception | None = None,
    overlaps: bool = False,
    mixes: bool = False,
) -> None:
    """This machine, with a TensorRT on a GPU beside what it has."""

    def open(graph: Graph, device: str, precision: str, threads: int, progress: Callable[[str], None]) -> Any:
        progress(f"TensorRT: building {graph.name}, 50 % after 3 s")
        if fails is not None:
            raise fails
        if overlaps:
            return Overlapping(graph, spoil, forgets, remembers, mixes=mixes)
        return Spoilt(graph, spoil, forgets, remembers)

    fake = SimpleNamespace(available=lambda: ("10.3.0", {"cuda": ("fp32", "fp16")}), open=open)
    module = choose._module
    monkeypatch.setattr(choose, "_module", lambda name: fake if name == "tensorrt" else module(name))
