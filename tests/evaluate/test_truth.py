"""Scores against a recording's truth, matched by time, and the sheet that shows them."""

import cv2
import numpy as np
import pytest

from rtpipe.errors import InputError, WorldError
from rtpipe.evaluate import metrics
from rtpipe.evaluate.sheet import contact_sheet, draw_events, lay_out
from rtpipe.evaluate.truth import Triple, score, triples
from rtpipe.formats.ecm_h5 import Writer
from rtpipe.types import Events, Frame

SIZE = (64, 48)
INSTANTS = [20_000, 60_000, 100_000, 140_000]


def image(seed, colour=False):
    random = np.random.default_rng(seed)
    rough = random.integers(0, 255, (48, 64, 3) if colour else (48, 64), dtype=np.uint8)
    return cv2.GaussianBlur(rough, (0, 0), 1.5)


def noisy(picture, by, seed=99):
    noise = np.random.default_rng(seed).normal(0, by, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "r.h5"
    with Writer(path, SIZE) as writer:
        t = np.arange(0, 160_000, 100, dtype=np.int64)
        writer.add_events(Events(t, np.full(len(t), 5), np.full(len(t), 7), np.ones(len(t), np.uint8)))
        for i, instant in enumerate(INSTANTS):
            writer.add_truth(Frame(image(i), instant, source="truth"))
            writer.add_frame(Frame(noisy(image(i), 30), instant, instant - 10_000, instant + 10_000))
    return path


def outputs(by=10, shift=0, instants=INSTANTS):
    return [Frame(noisy(image(INSTANTS.index(t)), by), t + shift, source="edi") for t in instants]


def test_each_output_is_scored_against_the_truth_of_its_instant(recording):
    scores = score(recording, outputs(shift=300))
    assert scores.missing == 0
    assert [s.t for s in scores.frames] == INSTANTS
    for i, s in enumerate(scores.frames):
        assert s.psnr_in == metrics.psnr(noisy(image(i), 30), image(i))
        assert s.psnr_out == metrics.psnr(noisy(image(i), 10), image(i))
        assert s.ssim_in == metrics.ssim(noisy(image(i), 30), image(i))
        assert s.ssim_out == metrics.ssim(noisy(image(i), 10), image(i))
    for name in ("psnr_in", "psnr_out", "ssim_in", "ssim_out", "gain_db"):
        assert getattr(scores, name) == pytest.approx(np.mean([getattr(s, name) for s in scores.frames]))
    assert scores.gain_db == pytest.approx(scores.psnr_out - scores.psnr_in)
    assert scores.gain_db > 7


def test_of_several_outputs_the_nearest_in_time_counts(recording):
    many = []
    for t in INSTANTS:
        many += [Frame(noisy(image(0), 90), t - 900), outputs(instants=[t], shift=100)[0], Frame(image(3), t + 800)]
    assert score(recording, many).frames == score(recording, outputs()).frames


def test_missing_outputs_are_counted_not_averaged(recording):
    scores = score(recording, outputs(instants=[INSTANTS[0], INSTANTS[2]]))
    assert (len(scores.frames), scores.missing) == (2, 2)


def test_an_output_of_another_instant_is_not_scored(recording):
    mixed = outputs(instants=INSTANTS[:1]) + outputs(instants=INSTANTS[1:], shift=1500)
    assert len(score(recording, mixed).frames) == 1
    assert len(score(recording, mixed, tolerance_us=1500).frames) == 4
    with pytest.raises(InputError, match="none of the outputs"):
        score(recording, outputs(shift=5000))


def test_the_camera_s_own_frames_gain_nothing(recording):
    same = [Frame(noisy(image(i), 30), t) for i, t in enumerate(INSTANTS)]
    assert score(recording, same).gain_db == 0


def test_a_colour_output_is_compared_in_grey(recording):
    colour = [Frame(np.repeat(frame.image[..., None], 3, axis=2), frame.t) for frame in outputs()]
    assert score(recording, colour).psnr_out == pytest.approx(score(recording, outputs()).psnr_out, abs=0.01)


def test_what_cannot_be_scored_is_refused(recording, tmp_path):
    with pytest.raises(ValueError, match="order of time"):
        score(recording, outputs()[::-1])
    with pytest.raises(InputError, match="differ in size"):
        score(recording, [Frame(frame.image[:40], frame.t) for frame in outputs()])
    with Writer(tmp_path / "no-truth.h5", SIZE) as writer:
        writer.add_frame(Frame(image(0), 20_000, 10_000, 30_000))
    with pytest.raises(InputError, match="no sharp pictures"):
        score(tmp_path / "no-truth.h5", outputs())


def test_triples_hold_what_belongs_together(recording):
    found = list(triples(recording, outputs(instants=INSTANTS[1:])))
    assert [t.frame.t for t in found] == [t.truth.t for t in found] == INSTANTS
    assert [None if t.output is None else t.output.t for t in found] == [None, *INSTANTS[1:]]


def test_the_sheet_shows_every_picture_unchanged(recording, tmp_path):
    written = contact_sheet(recording, outputs(), tmp_path / "sheet.png", rows=2)
    sheet = cv2.imread(str(written))
    chosen = [t for t in triples(recording, outputs()) if t.frame.t in (INSTANTS[0], INSTANTS[2])]
    for triple in chosen:
        for frame in triple:
            assert contains(sheet, enlarged(cv2.cvtColor(frame.image, cv2.COLOR_GRAY2BGR)))
    assert len(chosen) == 2
    assert not contains(sheet, enlarged(cv2.cvtColor(image(1), cv2.COLOR_GRAY2BGR)))


def test_more_rows_than_frames_show_each_frame_once(recording, tmp_path):
    heights = []
    for rows in (4, 9):
        path = contact_sheet(recording, outputs(), tmp_path / f"{rows}.png", rows=rows, events=False)
        heights.append(cv2.imread(str(path)).shape)
    assert heights[0] == heights[1]


def test_without_a_truth_there_is_one_column_less():
    frame = Frame(image(0), 0)
    with_truth = lay_out([Triple(frame, frame, frame)])
    without = lay_out([Triple(frame, frame, None)])
    assert without.shape[1] < with_truth.shape[1]
    assert without.shape[0] == with_truth.shape[0]


def test_a_sheet_that_cannot_be_made_or_written_says_so(recording, tmp_path):
    with pytest.raises(InputError, match="none of the outputs"):
        contact_sheet(recording, [], tmp_path / "a.png")
    with pytest.raises(WorldError, match="cannot be written"):
        contact_sheet(recording, outputs(), tmp_path / "nowhere" / "a.png")


def test_events_are_drawn_where_they_are_in_their_polarity_s_colour():
    events = Events(np.arange(8), np.array([3] * 4 + [60] * 4), np.array([2] * 4 + [47] * 4), [1] * 4 + [0] * 4)
    drawn = draw_events(events, SIZE).astype(int)
    blue, _, red = drawn[2, 3]
    assert red > blue
    blue, _, red = drawn[47, 60]
    assert blue > red
    drawn[2, 3] = drawn[47, 60] = 255
    assert (drawn == 255).all()
    with pytest.raises(InputError, match="do not fit 32x32"):
        draw_events(events, (32, 32))


def enlarged(picture):
    return cv2.resize(picture, None, fx=5, fy=5, interpolation=cv2.INTER_NEAREST)


def contains(sheet, picture):
    """Whether ``picture`` is somewhere in ``sheet``, bit for bit."""
    height, width = picture.shape[:2]
    rows, columns = sheet.shape[0] - height + 1, sheet.shape[1] - width + 1
    possible = np.ones((rows, columns), bool)
    random = np.random.default_rng(0)
    for y, x in zip(random.integers(0, height, 8), random.integers(0, width, 8), strict=True):
        possible &= sheet[y : y + rows, x : x + columns, 0] == picture[y, x, 0]
    return any(
        np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in zip(*possible.nonzero(), strict=True)
    )
