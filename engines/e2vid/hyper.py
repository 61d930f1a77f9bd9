"""HyperE2VID: E2VID with a decoder whose filters are made for each place and moment (Ercan et al., "HyperE2VID:
Improving Event-Based Video Reconstruction via Hypernetworks", IEEE Transactions on Image Processing 2024).

The variant of E2VID without normalisation, trained on raw grids and without a sigmoid. In its first decoder each pixel
has filters of its own: six sums of twelve fixed 5x5 bases, weighted by a small network that sees the events and the
previous image, which is a state like the others. Written anew from a description of the published configuration;
parameters bear the published names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.e2vid.network import BASE, BINS, LEVELS, State, UNet, e2vid_states, margins

ATOMS, BASES = 6, 12
"""Filters of a pixel, and what they are sums of."""

SIDE = 5
"""Of a base."""

CONTEXT = 32
DEEP, WIDE = BASE << LEVELS, BASE << LEVELS - 1
"""Channels that the first decoder takes and makes."""


def states(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """(C, H, W) of every state for images of this size, padding included: E2VID's, then the previous image."""
    return (*e2vid_states(height, width), (1, height + sum(margins(height)), width + sum(margins(width))))


class Context(nn.Module):
    """Events and the previous image at a quarter of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(BINS + 1, CONTEXT, 3, padding=1)

    def forward(self, voxel: Tensor, previous: Tensor) -> Tensor:
        """(B, 5, H, W) and (B, 1, H, W) to (B, 32, H/4, W/4)."""
        both = torch.cat((voxel, previous), 1)
        small = functional.interpolate(both, scale_factor=0.25, mode="bilinear", align_corners=False)
        made: Tensor = self.conv(small)
        return made


class Atoms(nn.Module):
    """Filters of each pixel."""

    bases: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bases", torch.zeros(BASES, SIDE * SIDE))
        self.bases_net = nn.Sequential(
            nn.Conv2d(CONTEXT, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.Tanh(),
            nn.Conv2d(64, ATOMS * BASES, 3, padding=1),
            nn.BatchNorm2d(ATOMS * BASES),
            nn.Tanh(),
        )

    def forward(self, context: Tensor) -> Tensor:
        """(B, 32, H, W) to (B, 6, 25, H, W)."""
        shares = self.bases_net(context).unflatten(1, (ATOMS, BASES))
        return torch.einsum("bmkhw,kl->bmlhw", shares, self.bases)


class Dynamic(nn.Module):
    """Convolution with the filters of each pixel, then across channels."""

    def __init__(self) -> None:
        super().__init__()
        self.compositional_coefficients = nn.Parameter(torch.zeros(WIDE, DEEP * ATOMS, 1, 1))
        self.bias = nn.Parameter(torch.zeros(WIDE))

    def forward(self, x: Tensor, atoms: Tensor) -> Tensor:
        """(B, 256, H, W) and (B, 6, 25, H, W) to (B, 128, H, W). Tap by tap: the patches of all pixels together would
        take 1.5 GB at 1280x720, this takes half as much."""
        height, width = x.shape[2:]
        around = functional.pad(x, (SIDE // 2,) * 4)[:, None]
        filtered = x.new_zeros(())
        for tap in range(SIDE * SIDE):
            row, column = divmod(tap, SIDE)
            filtered = filtered + around[..., row : row + height, column : column + width] * atoms[:, :, tap, None]
        across = self.compositional_coefficients.view(WIDE, DEEP, ATOMS).transpose(1, 2).reshape(WIDE, -1, 1, 1)
        return functional.conv2d(filtered.flatten(1, 2), across, self.bias)


class DynamicDecoder(nn.Module):
    """Twice the size by bilinear interpolation, then the dynamic convolution and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.context_fusion = Context()
        self.dynamic_atom_generation = Atoms()
        self.dynamic_conv = Dynamic()

    def forward(self, x: Tensor, voxel: Tensor, previous: Tensor) -> Tensor:
        """(B, 256, H/8, W/8), (B, 5, H, W) and (B, 1, H, W) to (B, 128, H/4, W/4)."""
        atoms = self.dynamic_atom_generation(self.context_fusion(voxel, previous))
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return functional.relu(self.dynamic_conv(x, atoms))


class HyperUNet(UNet):
    """E2VID's U-Net with the dynamic decoder in the first one's place."""

    def __init__(self) -> None:
        super().__init__(norm=None, upsample=True, outputs=1)
        self.decoders[0] = DynamicDecoder()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The image and the next states of E2VID; the previous image is the last of ``state``."""
        deep, head, following = self.encoded(x, state)
        first, *others = self.decoders
        decoded = first(deep + following[-2], x, state[-1])
        return self.decoded(decoded, head, following, others), tuple(following)


class HyperE2VID(nn.Module):
    """The network; its tensors have the published names."""

    def __init__(self) -> None:
        super().__init__()
        self.unetrecurrent = HyperUNet()

    def forward(self, voxel: Tensor, state: State | None = None, crop: bool = True) -> tuple[Tensor, State]:
        """From a raw voxel grid (B, 5, H, W) and the state (None: nothing seen yet) to the image (B, 1, H, W), about 0
        to 1, unclipped, and the next state. ``crop=False`` leaves the padding, zeros to multiples of 8, on the image.
        """
        batch, _, height, width = voxel.shape
        (top, bottom), (left, right) = margins(height), margins(width)
        if state is None:
            state = tuple(voxel.new_zeros(batch, *shape) for shape in states(height, width))
        image, following = self.unetrecurrent(functional.pad(voxel, (left, right, top, bottom)), state)
        shown = image[:, :, top : top + height, left : left + width] if crop else image
        return shown, (*following, image)
