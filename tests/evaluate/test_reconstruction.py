"""Scores of reconstructed pictures: what they compare and what they leave out."""

from dataclasses import replace

import numpy as np
import pytest

from rtpipe.errors import InputError
from rtpipe.evaluate import metrics
from rtpipe.evaluate.reconstruction import agreement, score
from rtpipe.formats import open_recording
from rtpipe.types import FrameFlag
from tests.pipeline.recording import make


def textured(seed=0, low=40, high=200):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    return np.clip((low + high) / 2 + 60 * np.sin(x / 5) * np.cos(y / 7) + random.normal(0, 8, (48, 64)), 0, 255)


def test_a_picture_agrees_wholly_with_itself():
    image = textured().astype(np.uint8)
    assert list(map(float, agreement(image, image).__reduce__()[1])) == pytest.approx([1, 0, 1, 0, 1])


def test_plain_numbers_are_of_values_from_0_to_1():
    made, stored = textured(0).astype(np.uint8), textured(1).astype(np.uint8)
    found = agreement(made, stored)
    assert found.ssim == pytest.approx(metrics.ssim(made, stored))
    assert found.mse == pytest.approx(metrics.mse(made, stored) / 255**2)


@pytest.mark.parametrize(("gain", "bias"), [(0.5, 20), (0.3, 120), (-0.6, 230)])
def test_matched_numbers_know_no_exposure_and_no_contrast(gain, bias):
    stored = textured().astype(np.uint8)
    made = np.clip(gain * stored + bias, 0, 255).astype(np.uint8)
    found = agreement(made, stored)
    assert found.ssim_matched > 0.98
    assert found.mse_matched < 1e-4
    assert found.mse > 100 * found.mse_matched


def test_the_match_is_the_best_straight_line():
    made, stored = textured(0) / 255, textured(1) / 255
    a, b = np.polyfit(made.ravel(), stored.ravel(), 1)
    wanted = metrics.mse(np.clip(a * made + b, 0, 1), stored)
    sixteen = [np.round(each * 65535).astype(np.uint16) for each in (made, stored)]
    assert agreement(*sixteen).mse_matched == pytest.approx(wanted, rel=1e-3)


def test_one_grey_scores_without_an_error():
    found = agreement(np.full((48, 64), 100, np.uint8), textured().astype(np.uint8))
    assert 0 <= found.ssim_matched < 0.4


def test_depth_and_colour_do_not_matter():
    image = textured().astype(np.uint8)
    same = agreement(image.astype(np.uint16) * 257, np.repeat(image[..., None], 3, axis=2))
    assert same.ssim == pytest.approx(1, abs=1e-4)


def test_frames_are_scored_by_time_and_what_was_passed_through_is_left_out(tmp_path):
    path = make(tmp_path / "source.h5", frames=6)
    frames = list(open_recording(path).frames())
    outputs = [replace(frame, t=frame.t + 300) for frame in frames[1:5]]
    outputs[0] = replace(outputs[0], flags=FrameFlag.PASSED_THROUGH)
    scores = score(path, outputs)
    assert scores.instants == tuple(frame.t for frame in frames[2:5])
    assert scores.missing == 3
    assert scores.mean.ssim == pytest.approx(1)


def test_outputs_of_other_instants_or_sizes_are_refused(tmp_path):
    path = make(tmp_path / "source.h5", frames=3)
    frames = list(open_recording(path).frames())
    with pytest.raises(InputError, match="none of the outputs"):
        score(path, [replace(frame, t=frame.t + 5000) for frame in frames])
    with pytest.raises(InputError, match="differ in size"):
        score(path, [replace(frame, image=frame.image[:20]) for frame in frames])
