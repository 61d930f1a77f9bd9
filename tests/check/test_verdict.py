"""What is called right, and what is said of what is wrong."""

import math

import numpy as np
import pytest

from rtpipe.check.one import RESET
from rtpipe.check.scene import STEPS
from rtpipe.check.verdict import ALLOWED, judge
from rtpipe.types import Array


def computed(seed: int = 0) -> dict[str, Array]:
    """Outputs of a recurrent network: every step differs, the one after the reset is the first again."""
    random = np.random.default_rng(seed)
    made = {f"{step}.0.0": random.uniform(0, 1, (1, 1, 20, 30)).astype(np.float32) for step in range(STEPS)}
    made[f"{RESET}.0.0"] = made["0.0.0"].copy()
    made["picture"] = np.round(made[f"{STEPS - 1}.0.0"][0, 0] * 255).astype(np.uint8)
    return made


def off_by(error: float, *steps: str, start: dict[str, Array] | None = None) -> dict[str, Array]:
    """The same, uniformly wrong by up to ``error`` in the steps named (none: all)."""
    random = np.random.default_rng(1)
    made = dict(start or computed())
    for key, array in made.items():
        if key != "picture" and (not steps or key.partition(".")[0] in steps):
            made[key] = (array + random.uniform(-error, error, array.shape)).astype(np.float32)
    return made


def test_the_same_is_right_without_a_word() -> None:
    verdict = judge(computed(), computed(), "fp32")
    assert (verdict.right, verdict.words, verdict.max_error, verdict.psnr_db) == (True, "", 0, None)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_stated_tolerance_is_what_is_applied(precision: str) -> None:
    allowed = ALLOWED[precision]
    error = min(allowed.largest, 2 * allowed.mean)  # the mean of a uniform error is half its largest
    assert judge(computed(), off_by(0.9 * error), precision).right
    verdict = judge(computed(), off_by(3 * error), precision)
    assert not verdict.right
    assert verdict.words == "wrong in every step"
    assert verdict.max_error == pytest.approx(3 * error, rel=0.05)
    assert verdict.mean_error == pytest.approx(1.5 * error, rel=0.05)


def test_one_bad_pixel_is_found() -> None:
    wrong = computed()
    wrong["2.0.0"] = wrong["2.0.0"].copy()
    wrong["2.0.0"][0, 0, 19, 29] += 0.05
    assert judge(computed(), wrong, "fp16").words == "right in the first step, wrong from step 2 on: its states differ"


def test_what_is_wrong_is_put_into_words() -> None:
    def said(*steps: str) -> str:
        return judge(computed(), off_by(0.5, *steps), "fp16").words

    assert said(RESET) == "wrong after a reset alone: its states are not zero then"
    assert "from step 1 on: its states differ" in said("1", "2", "3", "4", "5")
    assert said("0", "2") == "wrong in steps 0, 2 (from 0)"


def test_numbers_that_are_none_and_other_shapes_are_wrong_at_once() -> None:
    broken = computed()
    broken["1.0.0"] = np.full_like(broken["1.0.0"], np.nan)
    verdict = judge(computed(), broken, "fp32")
    assert (verdict.right, verdict.words, verdict.max_error) == (
        False,
        "not a number in the output of step 1",
        math.inf,
    )
    broken["1.0.0"] = np.zeros((1, 1, 20, 31), np.float32)
    assert "shape (1, 1, 20, 31), (1, 1, 20, 30) wanted" in judge(computed(), broken, "fp32").words
    del broken["1.0.0"]
    assert judge(computed(), broken, "fp32").words == "no output in step 1.0.0"


def test_a_picture_that_was_finished_wrongly_is_found_with_trained_weights() -> None:
    wrong = computed()
    wrong["picture"] = wrong["picture"][::-1]
    verdict = judge(computed(), wrong, "fp16")
    assert not verdict.right
    assert "the last picture differs: " in verdict.words
    assert "40 dB wanted" in verdict.words
    assert judge(computed(), wrong, "fp16", trained=False).right


def test_the_psnr_is_that_of_the_definition() -> None:
    wrong = computed()
    wrong["picture"] = np.where(wrong["picture"] > 100, wrong["picture"] - 2, wrong["picture"] + 2).astype(np.uint8)
    assert judge(computed(), wrong, "fp16").psnr_db == pytest.approx(20 * math.log10(255 / 2))


def test_half_precision_that_is_too_exact_is_asked_about_but_right() -> None:
    verdict = judge(computed(), off_by(1e-7), "fp16")
    assert (verdict.right, verdict.words) == (True, "as exact as single precision: is it half?")
    assert judge(computed(), off_by(1e-3), "fp16").words == ""


def test_a_large_value_that_hardly_changes_is_allowed_its_rounding() -> None:
    large = {key: array + 1000 if key != "picture" else array for key, array in computed().items()}
    rounded = {key: array.astype(np.float16).astype(np.float32) for key, array in large.items() if key != "picture"}
    assert judge(large, {**rounded, "picture": large["picture"]}, "fp16").right
    assert not judge(large, off_by(20, start=large), "fp16").right
