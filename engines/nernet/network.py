"""NER-Net: video from events at night (Liu et al., "Seeing Motion at Nighttime with an Event Camera", CVPR 2024).

A recurrent U-Net over a learned representation. Each event's contribution comes from a small network of its time inside
the window (LETC, learned event timestamps calibration), two convolutions refine the grid, and every encoder has two
memories: the usual one, and one that zigzags through the levels and comes back at full size for the next window.
Written anew from a description of the published configuration; parameters bear the published names.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

BINS = 5
CHANNELS = 2 * BINS
BASE = 32
LEVELS = 3
MULTIPLE = 1 << LEVELS
"""Sides are padded to multiples of this."""

State: TypeAlias = tuple[Tensor, ...]
"""h0, c0, h1, c1, h2, c2 (B, 64, H/2, W/2), (B, 128, H/4, W/4), (B, 256, H/8, W/8) and m (B, 32, H, W), of the padded
H and W."""


def margins(side: int) -> tuple[int, int]:
    """Zeros before and after a side of this many pixels; where they are odd the one before has more."""
    missing = -side % MULTIPLE
    return (missing + 1) // 2, missing // 2


def state_shapes(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """(C, H, W) of every state for images of this size, padding included."""
    height, width = height + sum(margins(height)), width + sum(margins(width))
    cells = [(BASE << level + 1, height >> level + 1, width >> level + 1) for level in range(LEVELS)]
    return (*(cell for cell in cells for _ in range(2)), (BASE, height, width))


class ValueLayer(nn.Module):
    """f: what an event adds to a bin, a function of its distance from it in bins. (..., 1) to (..., 1)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 50, 50, 50, 1)
        self.mlp = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, distance: Tensor) -> Tensor:
        """The value at each distance."""
        for layer in self.mlp[:-1]:
            distance = functional.leaky_relu(layer(distance), 0.1)
        value: Tensor = self.mlp[-1](distance)
        return value


class QuantizationLayer(nn.Module):
    """LETC event by event, as published; the pipeline looks the same products up in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.value_layer = ValueLayer()

    def products(self, tau: Tensor) -> Tensor:
        """What an event at ``tau`` (n,), from 0 to 4, adds to each bin: (n, 5)."""
        distance = tau[:, None] - torch.arange(BINS, dtype=tau.dtype, device=tau.device)
        return tau[:, None] * self.value_layer(distance[..., None])[..., 0]

    def forward(self, tau: Tensor, x: Tensor, y: Tensor, p: Tensor, height: int, width: int) -> Tensor:
        """The calibrated voxel (10, H, W) of events at ``tau``; ``x``, ``y``, ``p`` (0 off, 1 on) integers."""
        cells = (1 - p.long()) * (BINS * height * width) + y.long() * width + x.long()
        voxel = torch.zeros(CHANNELS * height * width, dtype=tau.dtype, device=tau.device)
        for bin_, column in enumerate(self.products(tau).unbind(1)):
            voxel.index_add_(0, cells + bin_ * height * width, column)
        return voxel.view(CHANNELS, height, width)


class RepCNN(nn.Module):
    """Two convolutions over the calibrated voxel, at the sensor's size."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(CHANNELS, 64, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(64, CHANNELS, 3, padding=1, bias=False),
        )

    def forward(self, voxel: Tensor) -> Tensor:
        """(B, 10, H, W) to the same."""
        refined: Tensor = self.cnn(voxel)
        return refined


class Representation(nn.Module):
    """From events to the U-Net's input."""

    def __init__(self) -> None:
        super().__init__()
        self.quantization_layer = QuantizationLayer()
        self.ConvLayer = RepCNN()

    def forward(self, voxel: Tensor) -> Tensor:
        """The refined grid of a calibrated voxel (B, 10, H, W)."""
        refined: Tensor = self.ConvLayer(voxel)
        return refined


class ConvLayer(nn.Module):
    """ReLU of a convolution."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(channels, out, 5, stride, padding=2)

    def forward(self, z: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H / stride, W / stride)."""
        return functional.relu(self.conv2d(z))


class UpsampleLayer(ConvLayer):
    """Twice the size, bilinear, then a convolution and ReLU."""

    def forward(self, z: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, 2 H, 2 W)."""
        return super().forward(functional.interpolate(z, scale_factor=2, mode="bilinear", align_corners=False))


class ContextBlock(nn.Module):
    """What the whole picture says to each channel: a mean weighted by attention, through a bottleneck.

    The attention spans all pixels: its weights lie below what half precision resolves, so this stays in float32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_mask = nn.Conv2d(channels, 1, 1)
        few = channels // 4
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(channels, few, 1), nn.LayerNorm([few, 1, 1]), nn.PReLU(), nn.Conv2d(few, channels, 1)
        )

    def forward(self, y: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 1, 1)."""
        attention = torch.softmax(self.conv_mask(y).flatten(2), dim=2)
        context = torch.matmul(y.flatten(2), attention.transpose(1, 2))
        term: Tensor = self.channel_add_conv(context.unsqueeze(3))
        return term


class Cell(nn.Module):
    """Two memories: ``c`` of this level, gated by how slowly things change, and ``m`` that comes from elsewhere.

    All convolutions without bias; the forget gates are opened by one.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv_x = nn.Sequential(nn.Conv2d(n, 7 * n, 3, padding=1, bias=False))
        self.conv_h = nn.Sequential(nn.Conv2d(n, 4 * n, 3, padding=1, bias=False))
        self.conv_m = nn.Sequential(nn.Conv2d(n, 3 * n, 3, padding=1, bias=False))
        self.conv_o = nn.Sequential(nn.Conv2d(2 * n, n, 3, padding=1, bias=False))
        self.conv_last = nn.Conv2d(2 * n, n, 1, bias=False)
        self.LAG_conv = nn.Conv2d(n, n, 1, bias=False)

    def forward(self, x: Tensor, h: Tensor, c: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next h, c and m; all (B, n, H, W)."""
        ix, fx, gx, jx, ex, kx, ox = self.conv_x(x).chunk(7, dim=1)
        ih, fh, gh, oh = self.conv_h(h).chunk(4, dim=1)
        im, fm, gm = self.conv_m(m).chunk(3, dim=1)
        enter = torch.sigmoid(ix + ih)
        lag = torch.exp(torch.sigmoid(self.LAG_conv(x)))
        forget = torch.sigmoid(torch.sigmoid(fx + fh + 1) - lag * enter)  # one sigmoid in another, as published
        c = forget * c + enter * torch.tanh(gx + gh)
        m = torch.sigmoid(ex + fm + 1) * m + torch.sigmoid(jx + im) * torch.tanh(kx + gm)
        memories = torch.cat((c, m), dim=1)
        h = torch.sigmoid(ox + oh + self.conv_o(memories)) * torch.tanh(self.conv_last(memories))
        return h, c, m


class Encoder(nn.Module):
    """Global context, halving, and the cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvLayer(channels, 2 * channels, stride=2)
        self.conv_mem = ConvLayer(channels, 2 * channels, stride=2)
        self.recurrent_block = Cell(2 * channels)
        self.conv_1x1 = nn.Conv2d(channels, channels, 1)
        self.GCB = ContextBlock(channels)

    def forward(self, z: Tensor, m: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next h, c and m (B, 2 C, H/2, W/2) of an input and a memory (B, C, H, W)."""
        y = self.conv_1x1(z)
        after: tuple[Tensor, Tensor, Tensor] = self.recurrent_block(
            self.conv(z + y + self.GCB(y)), h, c, self.conv_mem(m)
        )
        return after


class ResidualBlock(nn.Module):
    """Two convolutions around which the input goes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return functional.relu(z + self.conv2(functional.relu(self.conv1(z))))


class RecurrentUNet(nn.Module):
    """The U-Net, for sides that are multiples of 8."""

    def __init__(self) -> None:
        super().__init__()
        widths = [BASE << level for level in range(LEVELS + 1)]
        downwards = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = ConvLayer(CHANNELS, BASE)
        self.encoders = nn.ModuleList(Encoder(width) for width in widths[:-1])
        self.resblocks = nn.ModuleList(ResidualBlock(widths[-1]) for _ in range(2))
        self.decoders = nn.ModuleList(UpsampleLayer(above, below) for above, below in downwards)
        self.m_t_UpsampleLayer = nn.ModuleList(UpsampleLayer(above, below) for above, below in downwards)
        self.pred = nn.Module()
        self.pred.conv2d = nn.Conv2d(BASE, 1, 1)

    def forward(self, z: Tensor, state: State) -> tuple[Tensor, State]:
        """The image (B, 1, H, W) of a refined grid (B, 10, H, W), and the next state."""
        head = z = self.head(z)
        memory = state[-1]
        after: list[Tensor] = []
        memories: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            z, c, memory = encoder(z, memory, *state[2 * level : 2 * level + 2])
            after += (z, c)
            memories.append(memory)
        for upsample in self.m_t_UpsampleLayer:  # the deepest memory is added to itself
            memory = upsample(memory + memories.pop())
        for block in self.resblocks:
            z = block(z)
        for level, decoder in zip(reversed(range(LEVELS)), self.decoders, strict=True):
            z = decoder(z + after[2 * level])
        return self.pred.conv2d(z + head), (*after, memory)


class NERNet(nn.Module):
    """The published network: ``image, state = network(voxel, state)``.

    ``voxel`` float (B, 10, H, W), the calibrated voxel of a window at the sensor's size: bins 0 to 4 of ON events, then
    of OFF. ``state`` None begins anew. The image (B, 1, H, W) is about 0 (black) to 1 (white), unclipped; with ``crop``
    false it keeps the zeros' margins (:func:`margins`), by which sides become multiples of 8. A ``crop`` of a call
    overrides the constructor's.
    """

    def __init__(self, crop: bool = True) -> None:
        super().__init__()
        self.crop = crop
        self.representation = Representation()
        self.unetrecurrent = RecurrentUNet()

    def forward(self, voxel: Tensor, state: State | None = None, crop: bool | None = None) -> tuple[Tensor, State]:
        """One window."""
        height, width = int(voxel.shape[-2]), int(voxel.shape[-1])
        (top, bottom), (left, right) = margins(height), margins(width)
        refined = functional.pad(self.representation(voxel), (left, right, top, bottom))
        image, state = self.unetrecurrent(refined, self.zeros(voxel) if state is None else state)
        if self.crop if crop is None else crop:
            image = image[..., top : top + height, left : left + width]
        return image, state

    @staticmethod
    def zeros(voxel: Tensor) -> State:
        """The state before the first window like this one, each tensor one of its own."""
        shapes = state_shapes(int(voxel.shape[-2]), int(voxel.shape[-1]))
        return tuple(voxel.new_zeros((voxel.shape[0], *shape)) for shape in shapes)


class Step(nn.Module):
    """The network as runtimes take it: one voxel (H, W, 10) as the window stage leaves it in memory, then the states
    one by one; the image, cropped, and the next states."""

    def __init__(self, network: NERNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, voxel: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """One window. The turned voxel is a picture with its channels last, which convolutions read as it is."""
        image, following = self.network(voxel.permute(2, 0, 1).unsqueeze(0), states, crop=True)
        return (image, *following)
