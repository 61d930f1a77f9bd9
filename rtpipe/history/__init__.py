"""The last seconds of a source: kept in a byte-bounded ring behind the driver, played again and saved from there.

``ring`` keeps packets, ``stage`` passes them on and plays them again, ``save`` writes them to a recording;
:mod:`rtpipe.pipeline.history_worker` is the loop around them.
"""
