"""HDF5 in the layout of events_contrast_maximization: RLED, EventHDR, EFNet's raw GoPro and REBlur files."""

from __future__ import annotations

from rtpipe.formats.ecm_h5_write import Writer

__all__ = ["Writer"]
