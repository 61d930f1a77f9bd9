"""The shipped deblurring pipelines as a user starts them: a checkpoint brought in, a recording run through."""

import json

import numpy as np
import pytest

from engines.efnet import weights
from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.pipeline import config
from rtpipe.types import FrameFlag
from tests.engines.efnet_golden import install, tensors
from tests.pipeline.command_line import rtpipe
from tests.pipeline.recording import make

torch = pytest.importorskip("torch")

TORCH = ("engine.runtime=torch", "engine.device=cpu", "engine.threads=1")
QUIET = ("--headless", "--json", "sources.camera.speed=0")


def run(pipeline, source, out, *keys):
    """The run's facts, and what was recorded of its output."""
    sinks = f"sinks.1.path={out}/run.mp4", f"sinks.2.dir={out}"
    code, text, err = rtpipe("run", pipeline, "--source", source, *QUIET, *sinks, *keys, timeout=240)
    assert code == 0, err
    result = json.loads(text)
    assert result["losses"] == []
    (recorded,) = out.glob("*.mcap")
    with open_recording(recorded) as recording:
        return result, list(recording.pictures("engine/output"))


def test_a_checkpoint_is_brought_in_and_a_recording_made_sharp(shared, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path / "weights"))
    source = make(tmp_path / "source.h5", frames=3)
    checkpoint = tmp_path / "EFNet-REBlur.pth"
    torch.save({"params": {name: torch.from_numpy(array) for name, array in tensors(shared).items()}}, checkpoint)
    code, said, err = rtpipe("engines", "import", "efnet", checkpoint)
    assert code == 0, err
    assert said.startswith("efnet-reblur")
    assert "assumed" in said
    result, frames = run(
        "davis-deblur", source, tmp_path, "engine.runtime=torch", "engine.device=cpu", "engine.threads=1"
    )
    assert result["stages"]["engine"]["windows inferred"]["passed"] == len(frames) == 3
    assert not any(frame.flags & FrameFlag.PASSED_THROUGH for frame in frames)
    with open_recording(source) as recording:
        for sharp, blurred in zip(frames, recording.frames(), strict=True):
            assert sharp.image.shape == blurred.image.shape
            assert not np.array_equal(sharp.image, blurred.image)
            assert (sharp.t, sharp.exposure_start) == (blurred.t, blurred.exposure_start)


@pytest.mark.parametrize("pipeline", ["davis-deblur", "highrev-deblur"])
def test_without_weights_a_pipeline_is_refused_but_not_by_calculation(tmp_path, monkeypatch, pipeline) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=r"import efnet EFNet-REBlur\.pth; or go on without: engine\.network=edi"):
        config.load(pipeline)
    checked = config.load(pipeline, overrides=["engine.network=edi"])
    assert checked.engine is not None
    assert checked.engine.kind == "edi"


@pytest.mark.slow
def test_highrev_folders_are_made_sharp_with_weights_of_its_recipe(shared, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path / "weights"))
    install(shared, "efnet-highrev", weights.HIGHREV)
    folder = shared("recordings/layouts/highrev")
    _, frames = run("highrev-deblur", folder, tmp_path, *TORCH)
    assert [frame.image.shape for frame in frames] == [(260, 346)] * 3
    assert not any(frame.flags & FrameFlag.PASSED_THROUGH for frame in frames)
