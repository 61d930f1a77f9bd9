"""PIE-Net as its authors' package computes it, in PyTorch: what ours is held against."""

import numpy as np
import torch
from pie_net import load_model
from torch.nn import functional

from engines.pienet.weights import LAYOUTS

PUBLISHED = {"lite": "pie-net-lite", "full": "pie-net"}


class Package:
    """The published network with its weights, padded and cropped as documented; its states can be read and set."""

    def __init__(self, variant, resolution):
        self._network = load_model(device="cpu", variant=PUBLISHED[variant]).eval()
        width, height = resolution
        (left, right), (top, bottom) = LAYOUTS[variant].margins(width), LAYOUTS[variant].margins(height)
        self._pad = (left, right, top, bottom)
        self._crop = (..., slice(top, top + height), slice(left, left + width))

    def step(self, voxel):
        """The image, float32 (1, 1, H, W), of a grid (1, 5, H, W)."""
        with torch.inference_mode():
            made = self._network(functional.pad(torch.from_numpy(np.array(voxel)), self._pad))
        return made["image"].numpy()[self._crop]

    def reset(self):
        self._network.reset_states()

    @property
    def parameters(self):
        return sum(each.numel() for each in self._network.parameters())

    @property
    def states(self):
        """By our names."""
        network = self._network
        memories = {
            f"{kind}{level}": value
            for level, pair in enumerate(network.p_states)
            for kind, value in zip("hc", pair, strict=True)
        }
        found = {**memories, "frame": network.f0, "variance": network.prev_var}
        return {name: value.numpy() for name, value in found.items()}

    def set(self, states):
        given = {name: torch.from_numpy(np.array(value)) for name, value in states.items()}
        levels = range(sum(name.startswith("h") for name in given))
        self._network.p_states = [(given[f"h{level}"], given[f"c{level}"]) for level in levels]
        self._network.f0, self._network.prev_var = given["frame"], given["variance"]
