"""A stand-in of ``metavision_hal`` over the camera of :mod:`tests.drivers.camera.faults`: names and signatures of the
SDK's documented Python bindings, and no others. A test injects it as the module; nothing of it is the SDK's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np

from rtpipe.encodings.evt3_encode import Encoder
from rtpipe.types import Events, Trigger
from tests.drivers.camera.faults import Transfer, Unplugged, camera

EVENT_CD = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
EVENT_EXT_TRIGGER = np.dtype([("p", "<i2"), ("t", "<i8"), ("id", "<i2")])
SERIAL = "Prophesee:hal_plugin_prophesee:00ca0009"

calls: list[tuple[str, tuple[Any, ...]]] = []
"""What was set, in order."""
refuse: set[str] = set()
"""Calls that the camera refuses: they return False."""


def _did(name: str, *arguments: Any) -> bool:
    calls.append((name, arguments))
    return name not in refuse


class DeviceDiscovery:
    @staticmethod
    def list() -> list[str]:
        return [SERIAL] if camera().present else []

    @staticmethod
    def list_local() -> list[str]:
        return DeviceDiscovery.list()

    @staticmethod
    def open(serial: str) -> Device:
        try:
            return Device(serial, camera().open())
        except Unplugged:
            raise RuntimeError("no camera with this serial (scripted)") from None


class Device:
    def __init__(self, serial: str, session: int) -> None:
        self._stream = I_EventsStream(session)
        self._cd, self._triggers = I_EventDecoder(), I_EventDecoder()
        self._decoder = I_Decoder(self._cd, self._triggers)
        self._facilities = {
            "biases": I_LL_Biases(),
            "roi": I_ROI(),
            "mask": I_DigitalEventMask(),
            "erc": I_ErcModule(),
            "trail": I_EventTrailFilterModule(),
            "antiflicker": I_AntiFlickerModule(),
            "in": I_TriggerIn(),
            "out": I_TriggerOut(),
            "sync": I_CameraSynchronization(),
        }

    def get_i_events_stream(self) -> I_EventsStream:
        return self._stream

    def get_i_events_stream_decoder(self) -> I_Decoder:
        return self._decoder

    def get_i_event_cd_decoder(self) -> I_EventDecoder:
        return self._cd

    def get_i_event_ext_trigger_decoder(self) -> I_EventDecoder:
        return self._triggers

    def get_i_hw_identification(self) -> I_HW_Identification:
        return I_HW_Identification()

    def get_i_geometry(self) -> I_Geometry:
        return I_Geometry()

    def get_i_ll_biases(self) -> I_LL_Biases:
        return self._facilities["biases"]

    def get_i_roi(self) -> I_ROI:
        return self._facilities["roi"]

    def get_i_digital_event_mask(self) -> I_DigitalEventMask:
        return self._facilities["mask"]

    def get_i_erc_module(self) -> I_ErcModule:
        return self._facilities["erc"]

    def get_i_event_trail_filter_module(self) -> I_EventTrailFilterModule:
        return self._facilities["trail"]

    def get_i_antiflicker_module(self) -> I_AntiFlickerModule:
        return self._facilities["antiflicker"]

    def get_i_trigger_in(self) -> I_TriggerIn:
        return self._facilities["in"]

    def get_i_trigger_out(self) -> I_TriggerOut:
        return self._facilities["out"]

    def get_i_camera_synchronization(self) -> I_CameraSynchronization | None:
        return self._facilities["sync"]


class RawDataBuffer:
    """Opaque, as the SDK's is from 5 on: no buffer protocol."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer


class I_EventsStream:
    def __init__(self, session: int) -> None:
        self._session = session
        self._encoder = Encoder()
        self._waiting: Transfer | None = None

    def start(self) -> None:
        calls.append(("start", ()))

    def stop(self) -> None:
        camera().close()

    def poll_buffer(self) -> int:
        try:
            if self._waiting is None:
                got = camera().take(self._session, 0.0)
                self._waiting = got if got.until else None
        except Unplugged:
            return -1
        return 0 if self._waiting is None else 1

    def get_latest_raw_data(self) -> Any:
        assert self._waiting is not None
        transfer, self._waiting = self._waiting, None
        if "RawDataBuffer" in globals():
            return RawDataBuffer(transfer)
        events = Events.concatenate(body for body in transfer.bodies if isinstance(body, Events))
        signals = [body for body in transfer.bodies if isinstance(body, Trigger)]
        return self._encoder.encode(events, signals[0] if signals else None)  # SDK 4: an array of bytes


class I_Decoder:
    def __init__(self, cd: I_EventDecoder, triggers: I_EventDecoder) -> None:
        self._cd, self._triggers = cd, triggers
        self._last = -1

    def decode(self, RawData: RawDataBuffer) -> None:
        transfer = RawData._transfer
        for body in transfer.bodies:
            if isinstance(body, Events):
                self._cd._give(_structured(EVENT_CD, t=body.t, x=body.x, y=body.y, p=body.p))
            elif isinstance(body, Trigger):
                self._triggers._give(_structured(EVENT_EXT_TRIGGER, t=body.t, id=body.channel, p=body.edge))
        self._last = transfer.until - 1

    def get_last_timestamp(self) -> int:
        return self._last


def _structured(dtype: np.dtype[Any], **columns: Any) -> Any:
    array = np.empty(len(columns["t"]), dtype)
    for name, column in columns.items():
        array[name] = column
    return array


class I_EventDecoder:
    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], None]] = []

    def add_event_buffer_callback(self, object: Callable[[Any], None]) -> int:
        self._callbacks.append(object)
        return len(self._callbacks)

    def _give(self, array: Any) -> None:
        for callback in self._callbacks:
            callback(array)
        array["t"] = -1  # the SDK's memory is used again


class SensorInfo:
    name = "IMX636"


class I_HW_Identification:
    def get_serial(self) -> str:
        return "00ca0009"

    def get_current_data_encoding_format(self) -> str:
        return "EVT3"

    def get_sensor_info(self) -> SensorInfo:
        return SensorInfo()

    def get_system_info(self) -> dict[str, str]:
        return {"EVK4 Release Version": "3.9.0", "EVK4 Speed": "5000", "Connection": "USB", "Sensor Name": "IMX636"}


class I_Geometry:
    def get_width(self) -> int:
        return camera().resolution[0]

    def get_height(self) -> int:
        return camera().resolution[1]


class LL_Bias_Info:
    def __init__(self, name: str) -> None:
        self._name = name

    def is_modifiable(self) -> bool:
        return self._name != "bias_diff"

    def get_bias_range(self) -> tuple[int, int]:
        return -85, 140


class I_LL_Biases:
    def get_all_biases(self) -> dict[str, int]:
        return {"bias_diff": 0, "bias_diff_on": 0, "bias_diff_off": 0}

    def get_bias_info(self, bias_name: str) -> LL_Bias_Info:
        return LL_Bias_Info(bias_name)

    def set(self, bias_name: str, bias_value: int) -> bool:
        return _did("bias", bias_name, bias_value)


class I_ROI:
    class Window:
        def __init__(self, x: int, y: int, width: int, height: int) -> None:
            self.x, self.y, self.width, self.height = x, y, width, height

    def set_window(self, roi: Window) -> bool:
        return _did("roi.window", roi.x, roi.y, roi.width, roi.height)

    def enable(self, enable: bool) -> bool:
        return _did("roi", enable)


class I_PixelMask:
    def set_mask(self, x: int, y: int, enabled: bool) -> bool:
        return _did("mask", x, y, enabled)


class I_DigitalEventMask:
    def get_pixel_masks(self) -> list[I_PixelMask]:
        return [I_PixelMask(), I_PixelMask()]


class I_ErcModule:
    def enable(self, b: bool) -> bool:
        return _did("erc", b)

    def set_cd_event_rate(self, events_per_sec: int) -> bool:
        return _did("erc.rate", events_per_sec)

    def get_min_supported_cd_event_rate(self) -> int:
        return 0

    def get_max_supported_cd_event_rate(self) -> int:
        return 320_000_000


class I_EventTrailFilterModule:
    def enable(self, state: bool) -> bool:
        return _did("trail", state)

    def set_trail_filter(self) -> bool:
        return _did("trail.type")

    def set_threshold(self, threshold: int) -> bool:
        return _did("trail.threshold", threshold)

    def get_min_supported_threshold(self) -> int:
        return 1_000

    def get_max_supported_threshold(self) -> int:
        return 100_000


class I_AntiFlickerModule:
    class AntiFlickerMode(enum.Enum):
        BandStop = 0
        BandPass = 1

    def enable(self, b: bool) -> bool:
        return _did("antiflicker", b)

    def set_filtering_mode(self, mode: AntiFlickerMode) -> bool:
        return _did("antiflicker.mode", mode)

    def set_frequency_band(self, min_freq: int, max_freq: int) -> bool:
        return _did("antiflicker.band", min_freq, max_freq)

    def get_min_supported_frequency(self) -> int:
        return 50

    def get_max_supported_frequency(self) -> int:
        return 520


class I_TriggerIn:
    class Channel(enum.Enum):
        MAIN = 0
        AUX = 1
        LOOPBACK = 2

    def enable(self, channel: Channel) -> bool:
        return _did("trigger in", channel)

    def disable(self, channel: Channel) -> bool:
        return _did("no trigger in", channel)


class I_TriggerOut:
    def enable(self) -> bool:
        return _did("trigger out")

    def disable(self) -> bool:
        return _did("no trigger out")

    def set_period(self, period_us: int) -> bool:
        return _did("period", period_us)

    def set_duty_cycle(self, period_ratio: float) -> bool:
        return _did("duty", period_ratio)


class I_CameraSynchronization:
    def set_mode_standalone(self) -> bool:
        return _did("standalone")

    def set_mode_master(self) -> bool:
        return _did("master")

    def set_mode_slave(self) -> bool:
        return _did("slave")
