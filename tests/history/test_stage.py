"""The history stage in a plain loop, with the windows and the engine that follow it."""

import itertools
import json

import numpy as np
import pytest

from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.history.stage import REWOUND, NotRewoundError
from rtpipe.packing import unpack
from rtpipe.types import Events, Frame, FrameFlag
from tests.history.scenario import PERIOD_US, STREAMS, Scenario, pictures, source, tensors


def events_of(packets):
    bodies = [unpack(p.body) for p in packets if p.n_events]
    return Events.concatenate(bodies)


def test_live_packets_pass_at_once_as_they_came():
    run, packets = Scenario(live=True), list(source(20))
    for packet in packets:
        before = len(run.out)
        run.feed([packet])
        assert len(run.out) == before + 1
        out = run.out[-1]
        for name in ("stream", "seq", "t_first", "t_last", "received_ns", "epoch", "end"):
            assert getattr(out, name) == getattr(packet, name)
    run.check()
    assert pictures(run.out) == pictures(packets)
    assert not run.stage.busy


@pytest.mark.parametrize("live", [True, False])
def test_what_is_rewound_goes_through_the_engine_again_with_the_same_pictures(live):
    packets = list(source(40))
    run = Scenario(live)
    run.feed(packets[:150])
    asked = run.out[-1].t_last
    assert run.stage.control("rewind 0.1").startswith("at -0.10 s")
    run.play_out()
    run.feed(packets[150:])
    run.check()
    assert all(flow.dropped == {} for flow in run.stage.flows.values())  # nothing came meanwhile
    first = {t: image for epoch, t, _, image in pictures(packets)}
    made = pictures(run.out)
    again = [picture for picture in made if picture[0] == 1]
    stretch = [p for p in again if p[1] <= asked]
    assert len(stretch) == 10 == 100_000 // PERIOD_US  # those whose exposures lie in the 0.1 s
    assert all(image == first[t] for _, t, _, image in made)
    assert stretch[0][2] & FrameFlag.STATE_RESET
    assert {t for _, t, _, _ in made} == set(first)  # and going on from there costs no picture
    assert max(p.epoch for p in run.out) == 1


def test_what_a_live_camera_sends_meanwhile_is_kept_counted_and_can_be_seen_later():
    packets = list(source(60))
    run = Scenario(live=True)
    run.feed(packets[:120])
    run.stage.control("rewind 0.1")
    run.stage.control("pause")
    run.feed(packets[120:180])
    assert run.stage.rewound_s == pytest.approx(0.1 + 60 / 6 * 0.01, abs=0.005)
    run.stage.control("resume")
    run.play_out()
    assert run.stage.rewound_s is None
    run.feed(packets[180:300])
    missed = sum(p.n_events for p in packets[120:180])
    assert run.stage.flows["events"].dropped == {REWOUND: missed}
    run.check()
    epochs = [epoch for epoch, _ in itertools.groupby(p.epoch for p in run.out)]
    assert epochs == [0, 1, 2]  # live, rewound, live again
    first = {t: image for _, t, _, image in pictures(packets)}
    made = pictures(run.out)
    assert all(image == first[t] for _, t, _, image in made)
    resets = [epoch for epoch, _, flags, _ in made if flags & FrameFlag.STATE_RESET]
    assert resets == [0, 1, 2]
    run.stage.control("rewind 0.5")  # over the stretch that was missed
    run.play_out()
    again = [p for p in run.out if p.epoch == 3]
    assert np.array_equal(events_of(again).t, events_of(packets[:300]).between(*(again[0].t_first, 1 << 40)).t)
    run.check()


@pytest.mark.parametrize("live", [True, False])
def test_live_ends_a_rewind_at_once(live):
    packets = list(source(60))
    run = Scenario(live)
    run.feed(packets[:200])
    run.stage.control("rewind 0.2")
    run.step_due()
    assert run.stage.control("live") == "live"
    assert run.stage.control("live") == "live already"
    run.feed(packets[200:])
    run.play_out()
    run.check()
    assert [p.epoch for p in run.out if p.end] == [2, 2]
    flows = run.stage.flows
    assert flows["events"].passed == sum(p.n_events for p in packets)
    assert 0 < flows["events again"].passed < sum(p.n_events for p in packets[:200])


def test_a_replay_waits_and_nothing_is_lost_though_one_packet_is_taken_now_and_then(monkeypatch):
    now = itertools.count(0, 1000)  # every look at the clock is another quarter of an hour later
    monkeypatch.setattr("rtpipe.history.stage.time.monotonic", lambda: float(next(now)))
    packets = list(source(40))
    run = Scenario(live=False)
    run.feed(packets[:100])
    run.stage.control("rewind 0.1")
    run.stage.control("pause")
    length = len(run.out)
    run.feed(packets[100:110])  # so slowly that each is a sign of life
    assert len(run.out) == length
    run.stage.control("resume")
    run.play_out()
    run.feed(packets[110:])
    run.play_out()
    run.check()
    assert run.stage.flows["events"].passed == run.came["events"] == sum(p.n_events for p in packets)
    monkeypatch.undo()
    run = Scenario(live=False)
    run.feed(packets[:100])
    run.stage.control("rewind 0.1")
    run.stage.control("pause")
    assert run.feed(packets[100:]) == 0


def test_time_windows_of_a_rewind_are_those_of_a_stream_that_begins_there():
    """Voxel grids every 20 ms: the cadence begins anew with the first event of the stretch."""
    packets = [p for p in source(40) if p.stream == "camera/events"]
    run = Scenario(live=True)
    run.feed(packets[:150])
    run.stage.control("rewind 0.12")
    run.play_out()
    again = [p for p in run.out if p.epoch == 1]
    at = next(i for i, p in enumerate(packets) if p.t_last == again[0].t_last)
    got, wanted = tensors(again), tensors(packets[at:150])
    assert got == wanted
    assert len(got) == 5


def test_a_frame_whose_exposure_began_before_the_stretch_is_not_made_from_half_its_events():
    packets = list(source(40))
    run = Scenario(live=True)
    run.feed(packets[:150])
    run.stage.control("rewind 0.105")  # into the middle of an exposure
    run.play_out()
    again = [p for p in run.out if p.epoch == 1]
    begins = next(p.t_first for p in again if p.stream == "camera/events")
    frames = [p.body for p in again if isinstance(p.body, Frame)]
    assert all(frame.exposure_start >= begins for frame in frames)
    kept = [p.body for p in packets[:150] if isinstance(p.body, Frame) and p.t_last > begins]
    assert len(frames) == len(kept) - 1
    run.check()


def test_rewound_commands_act_on_what_is_played_again_and_else_are_declined():
    packets = list(source(60))
    run = Scenario(live=True)
    with pytest.raises(InputError, match="nothing is kept"):
        run.stage.control("rewind 1")
    run.feed(packets[:240])
    for command in ("pause", "resume", "step", "speed 2", "seek -1", "seek +1", "seek 4"):
        with pytest.raises(NotRewoundError):
            run.stage.control(command)
    run.stage.control("rewind 0.2")
    run.stage.control("pause")
    assert not run.step_due()
    run.stage.control("step")
    run.step_due()
    assert isinstance(run.out[-1].body, Frame)
    assert not run.step_due()
    here = run.stage.rewound_s
    run.stage.control("seek -0.05")
    assert run.stage.rewound_s == pytest.approx(here + 0.05, abs=0.003)
    run.step_due()  # paused: one picture is shown from there
    assert isinstance(run.out[-1].body, Frame)
    assert not run.step_due()
    assert run.stage.control("seek +0.1").startswith("at -")
    assert run.stage.rewound_s < here
    assert "all there is" in run.stage.control("rewind 100")
    assert run.stage.control("seek +100") == "live"
    with pytest.raises(NotRewoundError):
        run.stage.control("pause")
    run.stage.control("rewind 0.1")
    with pytest.raises(InputError, match="rewound camera"):
        run.stage.control("seek 4")
    run.stage.control("live")
    run.feed(packets[240:])
    run.check()


def test_an_absolute_seek_is_for_a_replays_driver_and_ends_the_rewind():
    run = Scenario(live=False)
    run.feed(list(source(20))[:80])
    run.stage.control("rewind 0.1")
    with pytest.raises(NotRewoundError):
        run.stage.control("seek 4")
    assert run.stage.rewound_s is None


def test_a_jump_of_the_source_is_a_jump_again_when_it_is_played_again():
    run = Scenario(live=False)
    first, second = list(source(10))[:-2], list(source(20, seed=1, epoch=3, t0=200_000))
    run.feed(first + second[:60])
    assert [e for e, _ in itertools.groupby(p.epoch for p in run.out)] == [0, 1]
    run.stage.control("rewind 0.15")
    run.play_out()
    run.feed(second[60:])
    run.check()
    epochs = [e for e, _ in itertools.groupby(p.epoch for p in run.out)]
    assert epochs == [0, 1, 2, 3]
    assert {p.t_last > 150_000 for p in run.out if p.epoch == 2} == {False}


@pytest.mark.parametrize("live", [True, False])
def test_the_end_comes_after_a_rewind(live):
    packets = list(source(30))
    run = Scenario(live)
    run.feed(packets[:100])
    run.stage.control("rewind 0.1")
    run.stage.control("pause")
    taken = run.feed(packets[100:])
    assert not any(p.end for p in run.out)
    assert run.stage.busy
    run.stage.control("resume")
    run.play_out()
    if taken is not None:
        run.feed(packets[100 + taken :])
    run.check()
    assert [p.stream for p in run.out if p.end] == [s.name for s in STREAMS]
    assert all(p.body is None for p in run.out if p.end)
    assert not run.stage.busy


def test_closing_while_rewound_passes_on_what_waited(monkeypatch):
    now = itertools.count(0, 1000)
    monkeypatch.setattr("rtpipe.history.stage.time.monotonic", lambda: float(next(now)))
    packets = list(source(30))
    run = Scenario(live=False)
    run.feed(packets[:100])
    run.stage.control("rewind 0.1")
    run.stage.control("pause")
    run.feed(packets[100:120])
    run.out += run.stage.close()
    run.check()
    assert run.stage.flows["events"].passed == sum(p.n_events for p in packets[:120])


def test_a_full_ring_says_what_it_could_not_keep_and_marks_the_hole():
    """1 MB; while the whole of it is held, newcomers find no room; later a rewind over the hole jumps there."""
    packets = list(source(3000))
    run = Scenario(live=True, megabytes=1, seconds=60)
    run.feed(packets[:2000])
    run.stage.control("rewind 60")
    run.stage.control("pause")
    run.feed(packets[2000:3000])
    assert "not kept" in run.stage.facts
    assert run.stage.bytes <= 1_000_000
    run.stage.control("live")
    run.feed(packets[3000:3200])
    run.stage.control("rewind 60")
    run.play_out()
    run.check()
    again = [p for p in run.out if p.epoch > 1 and p.stream == "camera/events"]
    jumps = [(a, b) for a, b in itertools.pairwise(again) if a.t_last != b.t_first]
    assert len(jumps) == 1
    assert all(b.epoch == a.epoch + 1 for a, b in jumps)
    first = {t: image for _, t, _, image in pictures(packets)}
    assert all(image == first[t] for _, t, _, image in pictures(run.out))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("live", [True, False])
def test_any_order_of_commands_keeps_the_ledger_and_makes_no_wrong_picture(live, seed):
    rng = np.random.default_rng(seed)
    packets = list(source(150, seed))
    run, at = Scenario(live, megabytes=1, seconds=0.5), 0
    while at < len(packets):
        if rng.random() < 0.3:
            verb = rng.choice(
                ["rewind 0.07", "rewind 0.3", "live", "pause", "resume", "step", "seek -0.1", "seek +0.05"]
            )
            try:
                run.stage.control(str(verb))
            except InputError:
                pass
        for _ in range(int(rng.integers(0, 4))):
            run.step_due()
        stop = min(len(packets), at + int(rng.integers(1, 40)))
        taken = run.feed(packets[at:stop])
        at = stop if taken is None else at + taken
        if taken == 0:
            run.stage.control("live")
    run.stage.control("live")
    run.play_out()
    run.check()
    assert [p.stream for p in run.out if p.end] == [s.name for s in STREAMS]
    first = {t: image for _, t, _, image in pictures(packets)}
    made = pictures(run.out)
    assert all(image == first[t] for _, t, _, image in made)
    if not live:
        assert all(flow.dropped == {} or set(flow.dropped) == {REWOUND} for flow in run.stage.flows.values())


def test_what_is_saved_is_what_came_in_the_last_seconds(tmp_path):
    packets = list(source(60))
    run = Scenario(live=True, dir=str(tmp_path))
    run.stage.note("pipeline", '{"sources": {}}')
    run.feed(packets[:300])
    run.stage.control("rewind 0.1")  # saving is of what came, whatever is shown
    save = run.stage.save(0.2)
    with pytest.raises(InputError, match="still saving"):
        run.stage.save(1)
    run.feed(packets[300:310])
    save.join()
    run.play_out()
    assert save.outcome.startswith("saved 0.20 s")
    assert save.outcome in run.stage.facts.values()
    recording = open_recording(save.path)
    wanted = events_of(packets[:300])
    got = recording.events()
    assert len(got) == save.events > 0
    for column in "txyp":
        np.testing.assert_array_equal(getattr(got, column), getattr(wanted, column)[-len(got) :])
    assert got.t[0] >= packets[299].t_last - 200_000 - 2000
    frames = [p.body for p in packets[:300] if isinstance(p.body, Frame)][-20:]
    for one, other in zip(recording.frames(), frames, strict=True):
        assert one.t == other.t
        np.testing.assert_array_equal(one.image, other.image)
    assert json.loads(recording.metadata["pipeline"]) == {"sources": {}}
    assert run.stage.save(0.1).path != save.path  # another file
    run.out += run.stage.close()
    assert len(list(tmp_path.glob("*.mcap"))) == 2


def test_a_save_that_fails_is_said_and_disturbs_nothing(tmp_path):
    packets = list(source(60))
    (tmp_path / "file").write_text("")
    run = Scenario(live=True, dir=str(tmp_path / "file"))
    run.feed(packets[:100])
    with pytest.raises(InputError, match="cannot be put there"):
        run.stage.save(1)
    run.feed(packets[100:])
    run.check()
    assert all(segment.pins == 0 for segment in run.stage._ring._segments)
