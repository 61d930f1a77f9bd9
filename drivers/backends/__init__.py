"""One file per SDK that can open cameras, all with the same inner names; see :class:`drivers.camera.contract.Backend`.

Found by name through the entry points ``rtpipe.backends``, so that another package can add one. The SDK itself is
imported inside the functions that need it, never when the module is.
"""
