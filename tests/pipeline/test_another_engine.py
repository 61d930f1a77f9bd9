"""``engine.network=OTHER`` on the command line: what the file says of its own network does not stand in the way."""

import pytest

from rtpipe.errors import ConfigError, InputError
from rtpipe.pipeline.config import load

TEXT = """\
sources:
  camera: {driver: synthetic, frames_hz: 25}
window: {of: camera, by: exposure}
engine: {network: efnet, weights: efnet-reblur, runtime: onnxruntime, late: wait}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    path = tmp_path / "pipeline.yaml"
    path.write_text(TEXT)
    return str(path)


def test_the_way_out_that_a_refusal_names_works_with_weights_in_the_file(file):
    config = load(file, overrides=["engine.network=edi"])
    assert config.engine.kind == "edi"
    assert config.load.late == "wait"


def test_another_network_wants_its_own_weights_not_the_files(file):
    with pytest.raises(InputError, match="no weights 'nernet'"):
        load(file, overrides=["engine.network=nernet", "window.by=time", "window.length_us=20000"])


def test_what_the_command_line_says_of_the_new_one_counts_and_is_checked(file):
    engine = load(file, overrides=["engine.network=edi", "engine.contrast=0.3"]).engine
    assert engine.settings.contrast == 0.3
    with pytest.raises(ConfigError, match="weights"):
        load(file, overrides=["engine.network=edi", "engine.weights=mine"])


def test_the_same_network_keeps_its_weights(file):
    with pytest.raises(InputError, match="no weights 'efnet-reblur'"):
        load(file, overrides=["engine.network=efnet"])


def test_an_engine_that_there_is_not_is_still_refused_by_name(file):
    with pytest.raises(ConfigError, match="nonsense"):
        load(file, overrides=["engine.network=nonsense"])
