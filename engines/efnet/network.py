"""EFNet: a blurred picture sharpened with the events of its exposure (Sun et al., ECCV 2022).

Two U-Nets one after the other, with an encoder of events beside the first. At each level of the first, picture features
attend to event features across channels (event-image cross-modal attention); the second takes over the first one's
features through a connection gated by where events were. Written anew from a description of the published
configuration; parameters bear the published names. :mod:`engines.efnet.folded` is the same function, made to run fast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BINS = 6
WIDTHS = (64, 128, 256)
"""Channels by level."""
HEADS = (1, 2, 4)
"""Attention heads by level, 64 channels each."""
MULTIPLE = 4
"""Sides must be multiples of this."""
SLOPE = 0.2


def lrelu(x: Tensor) -> Tensor:
    """The network's leaky ReLU."""
    return functional.leaky_relu(x, SLOPE)


def conv(channels: int, out: int, size: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size of its picture."""
    return nn.Conv2d(channels, out, size, padding=size // 2)


class Residual(nn.Module):
    """Two convolutions beside a 1x1 one: (B, C, H, W) to (B, out, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.identity = conv(channels, out, 1)
        self.conv_1 = conv(channels, out)
        self.conv_2 = conv(out, out)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output; the second activation is before the sum."""
        kept: Tensor = self.identity(x)
        return lrelu(self.conv_2(lrelu(self.conv_1(x)))) + kept


class Down(Residual):
    """One level of an encoder; ``downsample`` halves the sides where there is a level below."""

    def __init__(self, level: int) -> None:
        out = WIDTHS[level]
        super().__init__(WIDTHS[max(level - 1, 0)], out)
        if level < len(WIDTHS) - 1:
            self.downsample = nn.Conv2d(out, out, 4, stride=2, padding=1, bias=False)


class PixelNorm(nn.Module):
    """Layer norm over the channels of each pixel, (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` normalised."""
        return over_channels(self.body, x)


def over_channels(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer that acts on the last axis, on the channels of (B, C, H, W)."""
    made: Tensor = layer(x.permute(0, 2, 3, 1))
    return made.permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Channels of the picture attend to channels of the events; what is compared is whole pictures of features."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q, self.k, self.v, self.project_out = (nn.Conv2d(channels, channels, 1, bias=False) for _ in range(4))

    def forward(self, image: Tensor, event: Tensor) -> Tensor:
        """What the normalised ``image`` features find in the normalised ``event`` features, (B, C, H, W)."""
        batch, channels, height, width = image.shape
        heads = self.temperature.shape[0]
        shape = batch, heads, channels // heads, height * width
        q = functional.normalize(self.q(image).reshape(shape), dim=-1, eps=1e-12)
        k = functional.normalize(self.k(event).reshape(shape), dim=-1, eps=1e-12)
        v = self.v(event).reshape(shape)
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(-1)
        made: Tensor = self.project_out((weights @ v).reshape(image.shape))
        return made


class FeedForward(nn.Module):
    """Two layers with an exact GELU between, on the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        made: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return made


class Transformer(nn.Module):
    """Event-image cross-modal attention (EICA) with its norms and the layers after it."""

    def __init__(self, level: int) -> None:
        super().__init__()
        channels = WIDTHS[level]
        self.norm1_image = PixelNorm(channels)
        self.norm1_event = PixelNorm(channels)
        self.attn = Attention(channels, HEADS[level])
        self.norm2 = nn.LayerNorm(channels, eps=1e-5)
        self.ffn = FeedForward(channels)

    def forward(self, image: Tensor, event: Tensor) -> Tensor:
        """Picture features that have seen the event features, (B, C, H, W)."""
        image = image + self.attn(self.norm1_image(image), self.norm1_event(event))
        return image + over_channels(self.ffn, over_channels(self.norm2, image))


class ImageDown(Down):
    """A level of the first stage's encoder."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.image_event_transformer = Transformer(level)

    def fused(self, x: Tensor, event: Tensor) -> Tensor:
        """The level's features, with those of the events at this level."""
        made: Tensor = self.image_event_transformer(self(x), event)
        return made


class GatedDown(Down):
    """A level of the second stage's encoder, which may take over the first stage's features, gated by a mask (EMGC)."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        if level < len(WIDTHS) - 1:
            out = WIDTHS[level]
            self.emgc_enc, self.emgc_dec, self.emgc_enc_mask, self.emgc_dec_mask = (conv(out, out) for _ in range(4))

    def gate(self, encoded: Tensor, decoded: Tensor, mask: Tensor) -> Tensor:
        """What comes over from the first stage's encoder (outside ``mask``) and decoder (inside it)."""
        outside: Tensor = self.emgc_enc_mask((1 - mask) * encoded)
        inside: Tensor = self.emgc_dec_mask(mask * decoded)
        made: Tensor = self.emgc_enc(encoded) + outside + self.emgc_dec(decoded) + inside
        return made


class EventDown(Down):
    """A level of the events' encoder; ``conv_before_merge`` makes what the picture's level is given."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.conv_before_merge = conv(WIDTHS[level], WIDTHS[level], 1)


class Up(nn.Module):
    """A level of a decoder: (B, 2C, H/2, W/2) and a bridge (B, C, H, W) to (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.conv_block = Residual(2 * channels, channels)

    def forward(self, x: Tensor, bridge: Tensor) -> Tensor:
        """The level's features."""
        made: Tensor = self.conv_block(torch.cat([self.up(x), bridge], 1))
        return made


class SupervisedAttention(nn.Module):
    """The first picture, and features that have looked at it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(WIDTHS[0], WIDTHS[0])
        self.conv2 = conv(WIDTHS[0], 3)
        self.conv3 = conv(3, WIDTHS[0])

    def forward(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 64, H, W) and the first stage's picture (B, 3, H, W)."""
        picture: Tensor = self.conv2(x) + image
        features: Tensor = self.conv1(x) * torch.sigmoid(self.conv3(picture)) + x
        return features, picture


def decode(path: nn.ModuleList, skips: nn.ModuleList, kept: list[Tensor], x: Tensor) -> list[Tensor]:
    """A decoder's features by level, the full size first; ``kept`` are the encoder's, ``x`` the deepest ones."""
    made: list[Tensor] = []
    for up, skip, bridge in zip(path, skips, reversed(kept), strict=True):
        x = up(x, skip(bridge))
        made.insert(0, x)
    return made


class EFNet(nn.Module):
    """The published configuration: 8,466,445 parameters in 183 tensors, no buffers."""

    def __init__(self) -> None:
        super().__init__()
        levels = range(len(WIDTHS))
        bridges = WIDTHS[-2::-1]
        self.conv_01, self.conv_02 = conv(3, WIDTHS[0]), conv(3, WIDTHS[0])
        self.conv_ev1 = conv(BINS, WIDTHS[0])
        self.down_path_1 = nn.ModuleList(ImageDown(level) for level in levels)
        self.down_path_2 = nn.ModuleList(GatedDown(level) for level in levels)
        self.down_path_ev = nn.ModuleList(EventDown(level) for level in levels)
        self.up_path_1, self.up_path_2 = (nn.ModuleList(Up(width) for width in bridges) for _ in range(2))
        self.skip_conv_1, self.skip_conv_2 = (nn.ModuleList(conv(w, w) for w in bridges) for _ in range(2))
        self.sam12 = SupervisedAttention()
        self.cat12 = conv(2 * WIDTHS[0], WIDTHS[0], 1)
        self.last = conv(WIDTHS[0], 3)

    def forward(self, image: Tensor, events: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both stages' pictures (B, 3, H, W), not clamped; the second is the result.

        ``image`` (B, 3, H, W) from 0 to 1, ``events`` (B, 6, H, W) normalised, ``mask`` (B, 1, H, W) 0 or 1: where
        events were. Without a mask nothing comes over the gated connection, which is not what a mask of zeros does.
        Sides must be multiples of 4 (``ValueError``).
        """
        height, width = image.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(f"EFNet takes pictures whose sides are multiples of {MULTIPLE}, not {width}x{height}")
        encoded, deepest = self._first_encoder(image, events)
        decoded = decode(self.up_path_1, self.skip_conv_1, encoded, deepest)
        features, first = self.sam12(decoded[0], image)
        x = self.cat12(torch.cat([self.conv_02(image), features], 1))
        kept = []
        for level, down in enumerate(self.down_path_2[:-1]):
            x = down(x)
            if mask is not None:
                step = 1 << level
                x = x + down.gate(encoded[level], decoded[level], mask[..., ::step, ::step])
            kept.append(x)
            x = down.downsample(x)
        x = decode(self.up_path_2, self.skip_conv_2, kept, self.down_path_2[-1](x))[0]
        return first, self.last(x) + image

    def _first_encoder(self, image: Tensor, events: Tensor) -> tuple[list[Tensor], Tensor]:
        """The first stage's features at the upper levels, and at the deepest."""
        x, e = self.conv_01(image), self.conv_ev1(events)
        kept = []
        for down, down_events in zip(self.down_path_1, self.down_path_ev, strict=True):
            e = down_events(e)
            x = down.fused(x, down_events.conv_before_merge(e))
            kept.append(x)
            if down is not self.down_path_1[-1]:
                x, e = down.downsample(x), down_events.downsample(e)
        return kept[:-1], kept[-1]
