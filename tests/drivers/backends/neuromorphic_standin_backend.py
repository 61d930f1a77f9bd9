"""The back end over the stand-in, as an entry point that a run's driver process loads."""

from drivers.backends.neuromorphic import INSTALL, MODELS, NAME, TITLE, Device, attached, open, why_not
from tests.drivers.backends import neuromorphic_standin

neuromorphic_standin.install()

__all__ = ["INSTALL", "MODELS", "NAME", "TITLE", "Device", "attached", "open", "why_not"]
