"""Whether what a runtime computed is what the reference computed, by stated tolerances; in words where it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from rtpipe.check.one import RESET
from rtpipe.types import Array


class Allowed(msgspec.Struct, frozen=True):
    """How far outputs may lie from the reference: the largest and the mean error, as shares of the reference's range
    (largest less smallest value of an output, over all steps) and, for what rounding costs a large value that hardly
    changes, of its largest magnitude; and the least PSNR of the last picture, dB, which is asked of trained weights."""

    largest: float
    mean: float
    of_peak: float
    psnr_db: float


ALLOWED: Mapping[str, Allowed] = {
    "fp32": Allowed(largest=2e-4, mean=2e-5, of_peak=2e-6, psnr_db=60.0),
    "fp16": Allowed(largest=2e-2, mean=2e-3, of_peak=1e-3, psnr_db=40.0),
}
"""About ten times what was measured on processors, at 87x65 over the scene: single precision, ONNX Runtime beside
PyTorch, 3e-7 and 3e-8; half (PyTorch) up to 1.1e-3 and 1.6e-4 of the range, 56 dB and more (FireNet trained; E2VID,
EFNet, NER-Net and FireNet with random weights). So TF32, which has half's precision, is not taken for single."""

AS_EXACT = 5e-6
"""Half precision whose mean error is a smaller share of the range than this is not half precision."""


class Verdict(msgspec.Struct, frozen=True):
    """``right`` or not, and ``words`` why not (or what is odd); the largest and the mean error in the output's own
    units, as shares of its range, and the last picture's PSNR in dB (None: the same to the last grey value)."""

    right: bool
    words: str
    max_error: float
    mean_error: float
    max_share: float
    mean_share: float
    psnr_db: float | None


def judge(reference: Mapping[str, Array], got: Mapping[str, Array], precision: str, *, trained: bool = True) -> Verdict:
    """Compare the arrays of :func:`rtpipe.check.one.take`."""
    allowed = ALLOWED[precision]
    keys = [key for key in reference if key != "picture"]
    problem = _not_comparable(reference, got, keys)
    if problem:
        return Verdict(False, problem, math.inf, math.inf, math.inf, math.inf, math.nan)
    wrong: list[str] = []
    largest, total, count, max_share, mean_share = 0.0, 0.0, 0, 0.0, 0.0
    for output in sorted({key.rpartition(".")[2] for key in keys}):
        mine = [key for key in keys if key.rpartition(".")[2] == output]
        low, high = min(float(reference[k].min()) for k in mine), max(float(reference[k].max()) for k in mine)
        span = max(high - low, 1e-30)
        slack = allowed.of_peak * max(abs(low), abs(high))
        summed, numbers = 0.0, 0
        for key in mine:
            error = np.abs(got[key].astype(np.float64) - reference[key])
            worst, mean = float(error.max(initial=0)), float(error.mean()) if error.size else 0.0
            if worst > allowed.largest * span + slack or mean > allowed.mean * span + slack:
                wrong.append(key)
            largest, max_share = max(largest, worst), max(max_share, worst / span)
            summed, numbers = summed + float(error.sum()), numbers + error.size
        mean_share = max(mean_share, summed / max(1, numbers) / span)
        total, count = total + summed, count + numbers
    psnr = _psnr(reference.get("picture"), got.get("picture"))
    words = _where(wrong, keys)
    if not words and trained and psnr is not None and psnr < allowed.psnr_db:
        words = f"the last picture differs: {psnr:.1f} dB, {allowed.psnr_db:.0f} dB wanted"
    right = not words
    if right and precision == "fp16" and mean_share < AS_EXACT:
        words = "as exact as single precision: is it half?"
    return Verdict(right, words, largest, total / max(1, count), max_share, mean_share, psnr)


def _not_comparable(reference: Mapping[str, Array], got: Mapping[str, Array], keys: list[str]) -> str:
    for key in keys:
        if key not in got:
            return f"no output in step {key}"
        if got[key].shape != reference[key].shape:
            return f"an output of shape {got[key].shape}, {reference[key].shape} wanted"
        if not np.isfinite(got[key]).all():
            return f"not a number in the output of step {key.partition('.')[0]}"
    return ""


def _where(wrong: list[str], keys: list[str]) -> str:
    """What the steps that are wrong have in common."""
    steps = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    bad = list(dict.fromkeys(key.partition(".")[0] for key in wrong))
    if not bad:
        return ""
    if bad == [RESET]:
        return "wrong after a reset alone: its states are not zero then"
    if steps[0] not in bad and RESET not in bad:
        return f"right in the first step, wrong from step {bad[0]} on: its states differ"
    return "wrong in every step" if len(bad) == len(steps) else f"wrong in steps {', '.join(bad)} (from 0)"


def _psnr(reference: Array | None, got: Array | None) -> float | None:
    """Of two pictures, dB; None where they are the same."""
    if reference is None and got is None:
        return None
    if reference is None or got is None or reference.shape != got.shape:
        return 0.0
    difference = reference.astype(np.float64) - got
    error = float(np.mean(difference**2))
    full = float(np.iinfo(reference.dtype).max)
    return None if error == 0 else 10 * math.log10(full**2 / error)
