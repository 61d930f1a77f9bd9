"""Events and blurred frames from sharp pictures: a DAVIS-like camera in software.

``path`` moves the camera, ``photograph``, ``video`` and ``scene`` put something before it, ``sensor`` makes events,
``camera`` frames, and ``recording`` writes both, with the truth, to a file.
"""

from rtpipe.simulate.camera import CameraSettings
from rtpipe.simulate.recording import SimulationReport, simulate
from rtpipe.simulate.sensor import SensorSettings

__all__ = ["CameraSettings", "SensorSettings", "SimulationReport", "simulate"]
