"""The contrast thresholds found in recordings whose thresholds are known."""

import numpy as np
import pytest

from engines.edi import PRIOR, Engine, Settings
from tests.engines.scene import film


@pytest.mark.parametrize(
    ("on", "off", "spread", "noise_hz", "seed"),
    [(0.22, 0.22, 0.0, 0.0, 0), (0.12, 0.12, 0.08, 1.0, 2), (0.34, 0.28, 0.08, 1.0, 2), (0.2, 0.26, 0.12, 5.0, 0)],
)
def test_known_thresholds_are_found(on: float, off: float, spread: float, noise_hz: float, seed: int) -> None:
    engine = Engine()
    for exposure in film(on=on, off=off, spread=spread, noise_hz=noise_hz, seed=seed):
        engine.infer(exposure.window)
    assert engine.contrast == pytest.approx((on, off), rel=0.15)


def test_three_pictures_are_enough_to_come_near() -> None:
    engine = Engine()
    for exposure in film(on=0.12, off=0.12, frames=3, seed=0):
        engine.infer(exposure.window)
    assert engine.contrast == pytest.approx((0.12, 0.12), rel=0.2)


def test_noise_alone_teaches_nothing() -> None:
    engine = Engine()
    for exposure in film(speed=0.0, noise_hz=60.0, frames=4):
        engine.infer(exposure.window)
    assert engine.contrast == pytest.approx((PRIOR, PRIOR), rel=0.01)


def test_stillness_after_movement_changes_nothing() -> None:
    engine = Engine()
    for exposure in film(on=0.3, off=0.3, frames=4):
        engine.infer(exposure.window)
    known = engine.contrast
    for exposure in film(speed=0.0, noise_hz=60.0, frames=8, seed=1):
        engine.infer(exposure.window)
    assert engine.contrast == pytest.approx(known, rel=0.02)


def test_a_threshold_that_is_given_is_used_as_it_is() -> None:
    engine = Engine(Settings(contrast=0.31))
    for exposure in film(frames=2):
        engine.infer(exposure.window)
    assert engine.contrast == (0.31, 0.31)
    assert not engine.spec.stateful


def test_a_picture_without_structure_is_survived() -> None:
    engine = Engine()
    for exposure in film(frames=3):
        assert exposure.window.frame is not None
        exposure.window.frame.image[:] = 128
        engine.infer(exposure.window)
    assert np.all(np.isfinite(engine.contrast))
