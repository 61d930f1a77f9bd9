"""Deformable convolution, version 2 (Zhu et al., "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019):
each tap of the kernel reads beside its place, at an offset of its own, and is weighted by a mask of its own.

As ONNX it has two forms. One is made of plain operations around a single ``GridSample``, which every runtime has. The
other is the operator ``DeformConv`` (opset 19), which keeps no nine-fold copy of the features: TensorRT from 10.1 on
has it where its plugin library is, TensorRT for RTX has not. Sampling is in float32 in both: half precision tells
columns beyond 1024 no finer than a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

OPERATOR = "DeformConv"
OPSET = 19
"""Of ONNX, that has the operator."""


class DeformConv(nn.Module):  # type: ignore[misc,unused-ignore]
    """``weight`` (made, taken / groups, K, K) and ``bias`` (made). ``operator``: exported as :data:`OPERATOR`.

    ``forward(x, offset, mask)``: x (B, taken, H, W), offset (B, 2 * offset_groups * K * K, H', W') in pixels, for each
    group of channels and each tap, row by row, first down and then right, and mask (B, offset_groups * K * K, H', W')
    or none; gives (B, made, H', W'), H' as of an ordinary convolution. Between pixels it is bilinear; outside all is 0.
    """

    def __init__(
        self,
        taken: int,
        made: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        groups: int = 1,
        offset_groups: int = 1,
        bias: bool = True,
        operator: bool = False,
    ) -> None:
        super().__init__()
        if taken % groups or made % groups or taken % offset_groups:
            raise ValueError(f"{taken} to {made} channels in {groups} groups, {offset_groups} of offsets")
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation
        self.groups, self.offset_groups, self.operator = groups, offset_groups, operator
        self.weight = nn.Parameter(torch.empty(made, taken // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(made)) if bias else None
        nn.init.kaiming_uniform_(self.weight, 5**0.5)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """See the class."""
        if self.operator and torch.onnx.is_in_onnx_export():
            return self._as_operator(x, offset, mask)
        taps = self.kernel * self.kernel
        columns = self._columns(x, offset)
        if mask is not None:
            groups, (height, width) = self.offset_groups, offset.shape[2:]
            columns = columns.reshape(len(x), groups, -1, taps, height, width)
            columns = columns * mask.reshape(len(x), groups, 1, taps, height, width)
        columns = columns.reshape(len(x), -1, *offset.shape[2:])
        return functional.conv2d(columns, self.weight.flatten(1)[:, :, None, None], self.bias, groups=self.groups)

    def _columns(self, x: Tensor, offset: Tensor) -> Tensor:
        """What each tap reads: (B * offset_groups, channels of a group, taps * H', W') in the type of ``x``."""
        batch, channels, height, width = x.shape
        taps, (rows, columns) = self.kernel * self.kernel, offset.shape[2:]
        wide = torch.promote_types(x.dtype, torch.float32)
        shifts = offset.to(wide).reshape(-1, taps, 2, rows, columns)
        down, right = self._places(rows, columns, shifts.dtype, shifts.device)
        # Pixels as shares of the picture from -1 to 1, edge to edge, as the operation wants them.
        y = ((shifts[:, :, 0] + down) * 2 + 1) / height - 1
        x_at = ((shifts[:, :, 1] + right) * 2 + 1) / width - 1
        grid = torch.stack((x_at, y), -1).reshape(-1, taps * rows, columns, 2)
        source = x.to(wide).reshape(batch * self.offset_groups, channels // self.offset_groups, height, width)
        read = functional.grid_sample(source, grid, "bilinear", "zeros", align_corners=False)
        return read.to(x.dtype)

    def _places(self, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Where the taps would read without offsets: row (K * K, H', 1) and column (K * K, 1, W')."""
        taps = torch.arange(self.kernel, dtype=dtype, device=device) * self.dilation - self.padding
        row = torch.arange(rows, dtype=dtype, device=device) * self.stride
        column = torch.arange(columns, dtype=dtype, device=device) * self.stride
        down = taps.repeat_interleave(self.kernel)[:, None, None] + row[:, None]
        right = taps.repeat(self.kernel)[:, None, None] + column
        return down, right

    def _as_operator(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        """The operator's node, in float32."""
        wide = torch.float32
        given = [x.to(wide), self.weight.to(wide), offset.to(wide)]
        given += [] if self.bias is None and mask is None else [None if self.bias is None else self.bias.to(wide)]
        given += [] if mask is None else [mask.to(wide)]
        attributes = {
            "kernel_shape": [self.kernel] * 2,
            "strides": [self.stride] * 2,
            "pads": [self.padding] * 4,
            "dilations": [self.dilation] * 2,
            "group": self.groups,
            "offset_group": self.offset_groups,
        }
        shape = (x.shape[0], self.weight.shape[0], *offset.shape[2:])
        made: Tensor = torch.onnx.ops.symbolic(OPERATOR, given, attributes, dtype=wide, shape=shape, version=OPSET)
        return made.to(x.dtype)


def with_operator(make: Callable[[], Any]) -> Callable[[], Any]:
    """The function that makes the same module to be exported with :data:`OPERATOR`, for
    :class:`engines.runtime.graph.Native`."""
    return partial(_with_operator, make)


def _with_operator(make: Callable[[], Any]) -> Any:
    module = make()
    for part in module.modules():
        if isinstance(part, DeformConv):
            part.operator = True
    return module
