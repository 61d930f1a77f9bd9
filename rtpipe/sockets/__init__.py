"""Edges between processes: lossless or newest-only, never blocking, every loss counted.

One producer process has one :class:`Publisher` (a ROUTER that it binds); each of its consumers has a
:class:`Subscriber` (a DEALER that connects). ZeroMQ moves the bytes; the queue of an edge, its credits and its
acknowledgements are ours, because a high-water mark counts messages and drops in silence. Everything runs in the
owner's one thread: poll ``.socket`` with whatever else the owner waits for, then call ``serve``.
"""

from rtpipe.sockets.curve import CurveClient, CurveServer
from rtpipe.sockets.publisher import Publisher
from rtpipe.sockets.subscriber import Subscriber

__all__ = ["CurveClient", "CurveServer", "Publisher", "Subscriber"]
