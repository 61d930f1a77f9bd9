"""Which camera by which back end, and what is said where there is none."""

from types import SimpleNamespace

import pytest

from drivers.camera import choose as module
from drivers.camera.choose import NoneAttachedError, again, choose
from drivers.camera.contract import Attached
from drivers.davis import MODELS as DAVIS
from drivers.davis import Settings
from drivers.evk4 import MODELS as EVK4
from rtpipe.errors import InputError, RtpipeError, WorldError
from rtpipe.machine.usb import Known, UsbCamera


def backend(name, *cameras, why="", trouble=None, models=("DAVIS346", "EVK4")):
    def attached():
        if trouble:
            raise WorldError(trouble)
        return [Attached(name, *camera) for camera in cameras]

    return SimpleNamespace(
        NAME=name, TITLE=name, MODELS=models, INSTALL=f"pip install {name}", why_not=lambda: why, attached=attached
    )


@pytest.fixture
def house(monkeypatch, tmp_path):
    """``house(*backends, usb=[...])``: these are installed, that is on the USB."""

    def furnish(*backends, usb=()):
        by_name = {each.NAME: each for each in backends}
        monkeypatch.setattr(module.registry, "names", lambda group: tuple(sorted(by_name)))
        monkeypatch.setattr(module.registry, "load", lambda group, name: by_name[name])
        monkeypatch.setattr(module.usb, "cameras", lambda: list(usb))

    return furnish


def said(models, **settings):
    with pytest.raises(RtpipeError) as error:
        choose(models, Settings(**settings))
    assert "\n" not in str(error.value)
    return error.value


def test_the_preferred_back_end_that_sees_it_opens_it(house):
    house(backend("neuromorphic-drivers", ("DAVIS346", "7")), backend("dv-processing", ("DAVIS346", "00000007")))
    assert choose(DAVIS, Settings()).backend.NAME == "dv-processing"
    assert choose(DAVIS, Settings(backend="neuromorphic-drivers")).backend.NAME == "neuromorphic-drivers"
    assert choose(DAVIS, Settings(serial="7")).camera.serial == "00000007"


def test_another_back_end_is_taken_where_the_first_cannot(house):
    house(
        backend("dv-processing", trouble="USB is not there"),
        backend("metavision", why="not installed"),
        backend("neuromorphic-drivers", ("DAVIS346", "7")),
    )
    assert choose(DAVIS, Settings()).backend.NAME == "neuromorphic-drivers"


def test_one_of_several_must_be_named(house):
    house(backend("dv-processing", ("DAVIS346", "7"), ("DAVIS346", "8"), ("EVK4", "9")))
    assert "set serial to one of 7, 8" in str(said(DAVIS))
    assert choose(DAVIS, Settings(serial="8")).camera.serial == "8"
    assert choose(EVK4, Settings()).camera.serial == "9"
    assert choose((), Settings()).camera.model == "EVK4"


def test_what_is_missing_is_said_in_words(house):
    house()
    assert "pip install 'rtpipe[cameras]'" in str(said(DAVIS))
    house(backend("dv-processing", why="not installed"))
    assert "dv-processing: not installed (pip install dv-processing)" in str(said(DAVIS))
    house(backend("dv-processing"))
    nothing = said(DAVIS)
    assert isinstance(nothing, NoneAttachedError)
    assert "no DAVIS346 is attached (asked dv-processing)" in str(nothing)
    assert "rtpipe cameras" in str(nothing)
    house(backend("dv-processing", ("EVK4", "9")))
    assert "there is EVK4 9" in str(said(DAVIS))
    assert "with serial 5" in str(said(DAVIS, serial="5"))
    unknown = said(DAVIS, backend="bogus")
    assert isinstance(unknown, InputError)
    assert "there are auto, dv-processing" in str(unknown)
    house(backend("metavision", models=("EVK4",)))
    assert "metavision drives EVK4" in str(said(DAVIS, backend="metavision"))


def test_a_camera_that_may_not_be_opened_says_what_to_do(house, tmp_path):
    davis = Known("DAVIS346", "iniVation", "152a", ("841a",))
    house(backend("dv-processing"), usb=[UsbCamera(davis, tmp_path, may_open=False)])
    assert "rtpipe doctor --install-udev" in str(said(DAVIS))
    house(backend("dv-processing"), usb=[UsbCamera(davis, tmp_path, may_open=True)])
    assert "does not see it" in str(said(DAVIS))
    seen = backend("dv-processing")
    seen.attached = lambda: [Attached("dv-processing", "DAVIS346", "7", problem="in use by process 5")]
    house(seen)
    assert "DAVIS346 7: in use by process 5" in str(said(DAVIS))


def test_the_same_camera_is_taken_up_again_and_no_other(house):
    here = backend("dv-processing", ("DAVIS346", "8"), ("DAVIS346", "7"))
    house(here)
    chosen = choose(DAVIS, Settings(serial="7"))
    assert again(chosen, chosen.camera).serial == "7"
    here.attached = lambda: [Attached("dv-processing", "DAVIS346", "8")]
    assert again(chosen, chosen.camera) is None
