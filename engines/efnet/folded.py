"""EFNet made to be exported and run fast: the same function of the same weights, in fewer and plainer operations.

- Norms on (B, C, H, W) as it lies; their scale and shift are in the weights of what follows them.
- The layers after the attention are 1x1 convolutions.
- Attention weights, what they are applied to and the projection after them are all linear: one C x C matrix for each
  picture, applied once.
- The gated connection is one convolution of four parts side by side.
- In half precision the statistics over all pixels keep to its range: q and k are divided by the root of the number of
  pixels before they are multiplied; norms, their sums and the softmax are in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.efnet.network import WIDTHS, EFNet, GatedDown, Transformer, decode

EPS = 1e-5
SMALLEST = 1e-12


def normed(x: Tensor) -> Tensor:
    """``x`` less its mean over the channels of each pixel, over its standard deviation; computed in float32."""
    wide = x.float()
    centred = wide - wide.mean(1, keepdim=True)
    spread = torch.rsqrt((centred * centred).mean(1, keepdim=True) + EPS)
    return (centred * spread).to(x.dtype)


def after_norm(weight: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight (out, C) and bias (out,) of a linear layer that takes over the scale and shift of the norm before it."""
    matrix = weight.detach().flatten(1).double()
    shift = matrix @ norm.bias.detach().double()
    if bias is not None:
        shift = shift + bias.detach().double()
    return (matrix * norm.weight.detach().double()).float(), shift.float()


def pointwise(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A 1x1 convolution with these (out, C) and (out,) weights."""
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device="meta")
    made.weight = nn.Parameter(weight[:, :, None, None].contiguous())
    made.bias = nn.Parameter(bias.clone())
    return made


class Mixing(nn.Module):
    """From how alike q and k are to the matrix that event features go through. Small, and always in float32."""

    def __init__(self, block: Transformer) -> None:
        super().__init__()
        attention = block.attn
        value, shift = after_norm(attention.v.weight, None, block.norm1_event.body)
        self.temperature = nn.Parameter(attention.temperature.detach().clone())
        heads = self.temperature.shape[0]
        self.value = nn.Parameter(torch.cat([value, shift[:, None]], 1).reshape(heads, -1, value.shape[1] + 1))
        project = attention.project_out.weight.detach().flatten(1)
        self.project = nn.Parameter(project.reshape(len(project), heads, -1).transpose(0, 1).contiguous())

    def forward(self, alike: Tensor) -> tuple[Tensor, Tensor]:
        """``alike`` (B, heads, 64, 64), cosines; the matrix (B, C, C) and its shift (B, C, 1)."""
        weights = (alike * self.temperature).softmax(-1)
        matrix = (self.project @ (weights @ self.value)).sum(1)
        return matrix[..., :-1], matrix[..., -1:]


class FoldedTransformer(nn.Module):
    """:class:`~engines.efnet.network.Transformer`, folded."""

    def __init__(self, block: Transformer) -> None:
        super().__init__()
        attention, forward = block.attn, block.ffn
        self.heads = attention.temperature.shape[0]
        self.q = pointwise(*after_norm(attention.q.weight, None, block.norm1_image.body))
        self.k = pointwise(*after_norm(attention.k.weight, None, block.norm1_event.body))
        self.fc1 = pointwise(*after_norm(forward.fc1.weight, forward.fc1.bias, block.norm2))
        self.fc2 = pointwise(forward.fc2.weight.detach(), forward.fc2.bias.detach())
        self.mixing = Mixing(block)

    def forward(self, image: Tensor, event: Tensor) -> Tensor:
        """Picture features that have seen the event features, (B, C, H, W)."""
        event = normed(event)
        matrix, shift = self.mixing(self.alike(self.q(normed(image)), self.k(event)))
        found = matrix.to(image.dtype) @ event.flatten(2) + shift.to(image.dtype)
        image = image + found.reshape(image.shape)
        made: Tensor = image + self.fc2(functional.gelu(self.fc1(normed(image))))
        return made

    def alike(self, q: Tensor, k: Tensor) -> Tensor:
        """Cosines of the rows of ``q`` and ``k`` (B, C, H, W) over all pixels, by head: float32 (B, heads, 64, 64)."""
        batch, channels, height, width = q.shape
        shape = batch, self.heads, channels // self.heads, height * width
        scale = float(height * width) ** -0.5
        q, k = q.reshape(shape) * scale, k.reshape(shape) * scale
        products = (q @ k.transpose(-2, -1)).float()
        return products / length(q, scale)[..., :, None] / length(k, scale)[..., None, :]


def length(rows: Tensor, scale: float) -> Tensor:
    """The length of each row, at least the smallest that counts times ``scale``; float32."""
    wide = rows.float()
    return (wide * wide).sum(-1).sqrt().clamp_min(SMALLEST * scale)


class Gate(nn.Module):
    """The gated connection as one convolution; see :meth:`~engines.efnet.network.GatedDown.gate`."""

    def __init__(self, down: GatedDown) -> None:
        super().__init__()
        parts = down.emgc_enc, down.emgc_enc_mask, down.emgc_dec, down.emgc_dec_mask
        out = parts[0].out_channels
        self.conv = nn.Conv2d(len(parts) * out, out, 3, padding=1, device="meta")
        self.conv.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts], 1))
        self.conv.bias = nn.Parameter(sum(part.bias.detach().double() for part in parts).float())

    def forward(self, encoded: Tensor, decoded: Tensor, mask: Tensor) -> Tensor:
        """What comes over from the first stage."""
        made: Tensor = self.conv(torch.cat([encoded, (1 - mask) * encoded, decoded, mask * decoded], 1))
        return made


class Folded(nn.Module):
    """An :class:`~engines.efnet.network.EFNet` with or without a mask, folded. Takes over its weights: use it no more.

    ``forward(image, events[, mask])`` gives the second picture alone, in a tuple of one.
    """

    def __init__(self, net: EFNet, mask: bool) -> None:
        super().__init__()
        self.conv_01, self.conv_02, self.conv_ev1 = net.conv_01, net.conv_02, net.conv_ev1
        self.transformers = nn.ModuleList(FoldedTransformer(down.image_event_transformer) for down in net.down_path_1)
        self.down_image, self.down_event, self.down_second = net.down_path_1, net.down_path_ev, net.down_path_2
        self.up_first, self.up_second = net.up_path_1, net.up_path_2
        self.skip_first, self.skip_second = net.skip_conv_1, net.skip_conv_2
        self.sam12, self.cat12, self.last = net.sam12, net.cat12, net.last
        upper = net.down_path_2[:-1]
        self.gates = nn.ModuleList(Gate(down) for down in upper) if mask else None
        for down in net.down_path_1:
            del down.image_event_transformer
        for down in upper:
            del down.emgc_enc, down.emgc_enc_mask, down.emgc_dec, down.emgc_dec_mask

    def forward(self, image: Tensor, events: Tensor, mask: Tensor | None = None) -> tuple[Tensor]:
        """The sharp picture (B, 3, H, W), not clamped."""
        encoded, x = self._first_encoder(image, events)
        decoded = decode(self.up_first, self.skip_first, encoded, x)
        features, _ = self.sam12(decoded[0], image)
        x = self.cat12(torch.cat([self.conv_02(image), features], 1))
        kept = []
        for level in range(len(WIDTHS) - 1):
            down = self.down_second[level]
            x = down(x)
            if self.gates is not None and mask is not None:
                step = 1 << level
                x = x + self.gates[level](encoded[level], decoded[level], mask[..., ::step, ::step])
            kept.append(x)
            x = down.downsample(x)
        x = decode(self.up_second, self.skip_second, kept, self.down_second[-1](x))[0]
        return (self.last(x) + image,)

    def _first_encoder(self, image: Tensor, events: Tensor) -> tuple[list[Tensor], Tensor]:
        x, e = self.conv_01(image), self.conv_ev1(events)
        kept = []
        for level, transformer in enumerate(self.transformers):
            down, down_event = self.down_image[level], self.down_event[level]
            e = down_event(e)
            x = transformer(down(x), down_event.conv_before_merge(e))
            kept.append(x)
            if level < len(WIDTHS) - 1:
                x, e = down.downsample(x), down_event.downsample(e)
        return kept[:-1], x
