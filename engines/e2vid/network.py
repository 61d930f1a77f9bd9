"""E2VID and FireNet: video from events by recurrent networks.

E2VID (Rebecq et al., "High Speed and High Dynamic Range Video with an Event Camera", TPAMI 2019): a U-Net with a
convolutional LSTM in each encoder. FireNet (Scheerlinck et al., "Fast Image Reconstruction with an Event Camera", WACV
2020): the same task at full size with two convolutional GRUs and two hundred times fewer parameters. Both take a voxel
grid of five bins, as :mod:`engines.e2vid.prepare` makes it. E2VID+ and FireNet+ (Stoffregen et al., "Reducing the
Sim-to-Real Gap for Event Cameras", ECCV 2020) are the same networks, trained anew on raw grids; E2VID+ gives optical
flow beside the image. Written anew from a description of the published configurations; parameters bear the published
names.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

BINS = 5
BASE = 32
LEVELS = 3
MULTIPLE = 1 << LEVELS
"""E2VID pads sides to multiples of this; FireNet takes any."""

THIN = 16
"""Channels of FireNet."""

Norm: TypeAlias = Literal["BN"]
Padding: TypeAlias = Literal["reflect", "zeros"]

State: TypeAlias = tuple[Tensor, ...]
"""E2VID: h0, c0, h1, c1, h2, c2 (B, 64, H/2, W/2), (B, 128, H/4, W/4), (B, 256, H/8, W/8) of the padded H and W;
FireNet: g0, g1 (B, 16, H, W)."""


def margins(side: int) -> tuple[int, int]:
    """Pixels that E2VID adds before and after a side of this many; where they are odd the one before has more."""
    missing = -side % MULTIPLE
    return (missing + 1) // 2, missing // 2


def e2vid_states(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """(C, H, W) of every state of E2VID for images of this size, padding included."""
    height, width = height + sum(margins(height)), width + sum(margins(width))
    levels = range(1, LEVELS + 1)
    return tuple((BASE << level, height >> level, width >> level) for level in levels for _ in range(2))


def firenet_states(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """(C, H, W) of every state of FireNet for images of this size."""
    return ((THIN, height, width),) * 2


class Conv(nn.Module):
    """Convolution, normalised or with a bias; no activation."""

    def __init__(self, taken: int, made: int, kernel: int, stride: int = 1, norm: Norm | None = None) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(taken, made, kernel, stride, kernel // 2, bias=norm is None)
        if norm is not None:
            self.norm_layer = nn.BatchNorm2d(made)
        self.normed = norm is not None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        x = self.conv2d(x)
        return self.norm_layer(x) if self.normed else x


class Transposed(nn.Module):
    """Twice the size by a transposed convolution, normalised or with a bias, then ReLU."""

    def __init__(self, taken: int, made: int, norm: Norm | None) -> None:
        super().__init__()
        self.transposed_conv2d = nn.ConvTranspose2d(taken, made, 5, 2, 2, output_padding=1, bias=norm is None)
        if norm is not None:
            self.norm_layer = nn.BatchNorm2d(made)
        self.normed = norm is not None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', 2H, 2W)."""
        x = self.transposed_conv2d(x)
        return functional.relu(self.norm_layer(x) if self.normed else x)


class Upsampled(Conv):
    """Twice the size by bilinear interpolation, then convolution and ReLU."""

    def __init__(self, taken: int, made: int, norm: Norm | None) -> None:
        super().__init__(taken, made, 5, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', 2H, 2W)."""
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return functional.relu(super().forward(x))


class Residual(nn.Module):
    """Two convolutions around which the input passes."""

    def __init__(self, channels: int, norm: Norm | None = None) -> None:
        super().__init__()
        bias = norm is None
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        if norm is not None:
            self.bn1 = nn.BatchNorm2d(channels)
            self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.normed = norm is not None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        y = self.conv1(x)
        y = self.conv2(functional.relu(self.bn1(y) if self.normed else y))
        return functional.relu(x + (self.bn2(y) if self.normed else y))


class ConvLSTM(nn.Module):
    """Long short-term memory whose gates are convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.Gates = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden and cell state."""
        into, forget, out, new = self.Gates(torch.cat((x, hidden), 1)).chunk(4, 1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(cell), cell


class ConvGRU(nn.Module):
    """Gated recurrent unit whose gates are convolutions; the update gate weighs what is new."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reset_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.update_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.out_gate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The next state, which is the output too."""
        both = torch.cat((x, hidden), 1)
        update = torch.sigmoid(self.update_gate(both))
        reset = torch.sigmoid(self.reset_gate(both))
        new = torch.tanh(self.out_gate(torch.cat((x, hidden * reset), 1)))
        return hidden * (1 - update) + new * update


class Encoder(nn.Module):
    """Half the size, then memory."""

    def __init__(self, taken: int, made: int, norm: Norm | None) -> None:
        super().__init__()
        self.conv = Conv(taken, made, 5, 2, norm)
        self.recurrent_block = ConvLSTM(made)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The next states; the first is the output."""
        hidden, cell = self.recurrent_block(functional.relu(self.conv(x)), hidden, cell)
        return hidden, cell


class UNet(nn.Module):
    """E2VID from a padded grid to its prediction before the activation."""

    def __init__(self, norm: Norm | None, upsample: bool, outputs: int) -> None:
        super().__init__()
        widths = [BASE << level for level in range(LEVELS + 1)]
        decoder = Upsampled if upsample else Transposed
        self.head = Conv(BINS, BASE, 5)
        self.encoders = nn.ModuleList(Encoder(a, b, norm) for a, b in pairwise(widths))
        self.resblocks = nn.ModuleList(Residual(widths[-1], norm) for _ in range(2))
        self.decoders = nn.ModuleList(decoder(a, b, norm) for a, b in pairwise(reversed(widths)))
        self.pred = Conv(BASE, outputs, 1, norm=norm)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The prediction (B, outputs, H, W) and the next states."""
        deep, head, following = self.encoded(x, state)
        return self.decoded(deep, head, following, self.decoders), tuple(following)

    def encoded(self, x: Tensor, state: State) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What goes into the decoders, the head's output, and the next states."""
        head = x = functional.relu(self.head(x))
        following: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            x, cell = encoder(x, state[2 * level], state[2 * level + 1])
            following += [x, cell]
        for block in self.resblocks:
            x = block(x)
        return x, head, following

    def decoded(self, x: Tensor, head: Tensor, following: Sequence[Tensor], decoders: Sequence[nn.Module]) -> Tensor:
        """Through ``decoders``, the last ones of all, and the prediction."""
        for level, decoder in zip(reversed(range(len(decoders))), decoders, strict=True):
            x = decoder(x + following[2 * level])
        predicted: Tensor = self.pred(x + head)
        return predicted


class E2VID(nn.Module):
    """The network; its tensors have the published names.

    ``norm`` and ``upsample`` (bilinear interpolation and convolution, or a transposed convolution) tell the two
    published variants apart; ``plus``: E2VID+, without the sigmoid, whose second and third output are optical flow.
    ``padding``: how sides are brought to multiples of 8.
    """

    def __init__(
        self, norm: Norm | None = "BN", upsample: bool = False, plus: bool = False, padding: Padding = "reflect"
    ) -> None:
        super().__init__()
        self.plus, self.padding = plus, padding
        self.unetrecurrent = UNet(norm, upsample, 3 if plus else 1)

    def forward(self, voxel: Tensor, state: State | None = None, crop: bool = True) -> tuple[Tensor, State]:
        """From a prepared voxel grid (B, 5, H, W) and the state (None: nothing seen yet) to the image (B, 1, H, W),
        about 0 to 1, and the next state. ``crop=False`` leaves the padding on the image, where post-processing starts.
        """
        batch, _, height, width = voxel.shape
        (top, bottom), (left, right) = margins(height), margins(width)
        if top or left:
            mode = "constant" if self.padding == "zeros" else self.padding
            voxel = functional.pad(voxel, (left, right, top, bottom), mode=mode)
        if state is None:
            state = tuple(voxel.new_zeros(batch, *shape) for shape in e2vid_states(height, width))
        predicted, state = self.unetrecurrent(voxel, state)
        image = predicted[:, :1] if self.plus else torch.sigmoid(predicted)
        return (image[:, :, top : top + height, left : left + width] if crop else image), state


class Head(nn.Module):
    """FireNet's first layer, with memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv(BINS, THIN, 3)
        self.recurrent_block = ConvGRU(THIN)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The next state."""
        following: Tensor = self.recurrent_block(functional.relu(self.conv(x)), hidden)
        return following


class Remembering(nn.Module):
    """A residual block, then memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Residual(THIN)
        self.recurrent_block = ConvGRU(THIN)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The next state."""
        following: Tensor = self.recurrent_block(self.conv(x), hidden)
        return following


class Layers(nn.Module):
    """FireNet's layers under their published names."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Head()
        self.resblocks = nn.ModuleList((Remembering(), Residual(THIN)))
        self.pred = Conv(THIN, 1, 1)


class FireNet(nn.Module):
    """The network; its tensors have the published names. Nothing is padded inside."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Layers()

    def forward(self, voxel: Tensor, state: State | None = None, crop: bool = True) -> tuple[Tensor, State]:  # noqa: ARG002
        """From a prepared voxel grid (B, 5, H, W) and the state (None: nothing seen yet) to the image (B, 1, H, W),
        about 0 to 1, unclipped, and the next state. ``crop`` is there to be called as :class:`E2VID` is."""
        batch, _, height, width = voxel.shape
        if state is None:
            state = tuple(voxel.new_zeros(batch, *shape) for shape in firenet_states(height, width))
        remembering, residual = self.net.resblocks
        first = self.net.head(voxel, state[0])
        second = remembering(first, state[1])
        return self.net.pred(residual(second)), (first, second)


class Step(nn.Module):
    """A network as runtimes take it: the states one by one behind the input, their next values behind the image, which
    keeps its padding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, voxel: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """The image and the next states."""
        image, following = self.network(voxel, states, crop=False)
        return (image, *following)
