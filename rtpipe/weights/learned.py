"""The contract of an engine that needs weights: what the ``NETWORK`` of its module offers.

A property that belongs to the checkpoint (colour order, mask, representation, normalisation, bins) is kept with the
weights, in the metadata of their safetensors file, never in the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rtpipe.types import Array, Resolution


@dataclass(frozen=True, slots=True)
class Properties:
    """What a checkpoint is: ``network``; ``variant`` (``"gopro"``, ``"bn"``, ``"lite"``), under which it is stored as
    ``NETWORK-VARIANT``; ``values``, the rest, as text by name (``{"color_order": "bgr", "mask": "yes"}``)."""

    network: str
    variant: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that exists: its ``name`` here (``"efnet-gopro"``), the ``file`` it comes in, and in words
    ``where`` it can be had and under which ``licence``."""

    name: str
    file: str
    where: str
    licence: str


class Learned(Protocol):
    """An engine's ``NETWORK``.

    It may also have ``without``, in words what to configure where the weights are not to be had (``"engine: edi
    deblurs without weights"``); ``runtimes``, the names of those that can run it (without it: all); and
    ``import_packaged(overwrite: bool) -> Sequence[store.Listed]`` where a Python package brings the weights, so that
    ``rtpipe engines import NETWORK`` needs no file: it stores them and tells what it stored; and ``shapes(variant)``,
    every tensor's shape by name, from which ``rtpipe bench engine`` makes weights where there are none.
    """

    name: str
    published: tuple[Published, ...]

    def recognise(
        self, tensors: Mapping[str, Array], config: Mapping[str, Any], given: Mapping[str, str]
    ) -> tuple[Mapping[str, Array], Properties]:
        """The tensors under the names that the network's module has, and what the checkpoint is.

        Strict: every tensor the network has, of its shape, and no other (``InputError`` that names the first few that
        are missing, superfluous or of another shape). ``config`` is the plain data that came with it, and its file's
        name as ``"file"``: published variants of one network may differ in nothing else. ``given`` are
        properties that the user states (``{"color_order": "rgb"}``); one that is neither given nor to be told from the
        checkpoint takes the published default.
        """
        ...

    def parameters(self, variant: str = "") -> int:
        """How many numbers are learned."""
        ...

    def gflop(self, resolution: Resolution, variant: str = "") -> float:
        """Billions of operations (two per multiply-add) for one picture of this size, its padding included."""
        ...
