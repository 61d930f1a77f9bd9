"""What all live cameras share: the contract with their back ends, the settings, the driver around a device.

A camera's driver (``drivers/davis.py``) is a thin file: its settings and which models it takes. A back end
(``drivers/backends/``) knows one SDK: what is attached, and how an attached camera is opened as a :class:`Device`.
:mod:`drivers.camera.live` is the driver itself: sequence numbers, epochs, watermarks, losses, reconnection, settings.
"""
