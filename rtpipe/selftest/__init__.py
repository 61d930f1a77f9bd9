"""The ten-minute checklist as a program: what an owner of a camera lets run so that it is known to work.

A camera is opened by its real driver and only spoken to as the pipeline does: packets, ``control``, facts, flows.
:mod:`rtpipe.selftest.sample` collects what came, the ``check_*`` modules judge it, :mod:`rtpipe.selftest.run` goes
through all of them, and what was found is printed, kept as JSON and drawn.
"""
