"""A small recurrent network with what breaks runtimes: two states of one shape, an odd size, a softmax over space."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from engines.runtime.graph import Graph, Port
from rtpipe.types import Array


def network(seed: int = 3) -> Any:
    """The module. PyTorch is imported here: the graph can be made without it."""
    import torch
    from torch import nn

    class Attention(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Conv2d(8, 1, 1)
            self.dtypes: list[torch.dtype] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.dtypes.append(x.dtype)
            weights = torch.softmax(self.score(x).flatten(2), dim=2)
            return (x.flatten(2) * weights).sum(2)[:, :, None, None] * 20

    class Recurrent(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 8, 5, padding=2)
            self.from_h = nn.Conv2d(8, 8, 3, padding=1)
            self.from_c = nn.Conv2d(8, 8, 3, padding=1, bias=False)
            self.attention = Attention()
            self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
            self.picture = nn.Conv2d(8, 1, 1)

        def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
            z = torch.relu(self.head(x))
            z = z + self.attention(z)
            small = nn.functional.interpolate(self.down(z), size=z.shape[2:], mode="bilinear", align_corners=False)
            c_next = torch.sigmoid(self.from_h(h) - self.from_c(c)) * c + torch.tanh(z + small)
            h_next = torch.tanh(c_next + 0.5 * h)
            return self.picture(h_next), h_next, c_next

    torch.manual_seed(seed)
    return Recurrent()


def graph(width: int, height: int, seed: int = 3, keep: tuple[str, ...] = ("attention",)) -> Graph:
    """It at a size."""
    state = (1, 8, height, width)
    return Graph(
        "recurrent",
        (Port("events", (1, 3, height, width)),),
        (Port("picture", (1, 1, height, width)),),
        (Port("h", state), Port("c", state)),
        f"seed {seed}",
        partial(network, seed),
        keep_float32=keep,
    )


def stateless() -> Graph:
    """A network without a state, with two inputs and two outputs."""

    def make() -> Any:
        import torch

        class Two(torch.nn.Module):  # type: ignore[misc]
            def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                return a + 2 * b, a - b

        return Two()

    ports = tuple(Port(name, (1, 2, 5, 7)) for name in "ab")
    return Graph("two", ports, tuple(Port(name, (1, 2, 5, 7)) for name in ("sum", "difference")), (), "none", make)


def inputs(width: int, height: int, steps: int) -> list[Array]:
    """Random inputs."""
    random = np.random.default_rng(5)
    return [random.standard_normal((1, 3, height, width)).astype(np.float32) for _ in range(steps)]


def quiet(_: str) -> None:
    """Takes progress and says nothing."""
