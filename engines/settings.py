"""What every engine with learned weights lets a user choose: which weights, and what computes the network, where."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

Runtime: TypeAlias = Literal["auto", "tensorrt", "onnxruntime", "torch"]
Device: TypeAlias = Literal["auto", "cuda", "cpu"]
Precision: TypeAlias = Literal["auto", "fp32", "fp16"]


class Learned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings that all learned engines share; an engine's own ``Settings`` inherit from this.

    What happens when pictures take too long (skip, a lighter engine, a smaller size) is the pipeline's affair and the
    same for every engine, with weights or without: :mod:`rtpipe.load`.
    """

    weights: str = ""
    """The name of weights that are installed (``"efnet-gopro"``) or a safetensors file; left out: the network's usual
    ones."""
    runtime: Runtime = "auto"
    """What computes the network; ``auto``: the fastest that this machine has, by device first."""
    device: Device = "auto"
    """``auto``: a GPU if there is one that a runtime can use, else the CPU."""
    precision: Precision = "auto"
    """``auto``: half precision on a GPU, single on a CPU. Half precision on a CPU is refused: it saves no time there
    and costs accuracy."""
    threads: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    """CPU threads that compute the network; 0: as many as the machine has cores, less one for the windows where there
    are more than two."""
