"""A client of a running pipeline's control socket: request and reply."""

from __future__ import annotations

from pathlib import Path

import msgspec
import zmq

from rtpipe.errors import WireError, WorldError
from rtpipe.pipeline.messages import MAX_BYTES, VERSION, Answer, Request, encode
from rtpipe.pipeline.plan import endpoint

_answer = msgspec.msgpack.Decoder(Answer)


def ask(run_directory: Path, command: str, *, timeout_s: float = 6.0) -> Answer:
    """Send ``command`` (:func:`rtpipe.pipeline.messages.check_command`) and wait for the answer.

    Blocks at most ``timeout_s``; raises ``WorldError`` when nothing answers.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint(run_directory, "control"))
        socket.send(encode(Request(1, command)))
        if not socket.poll(int(timeout_s * 1000)):
            raise WorldError(f"the pipeline in {run_directory} does not answer")
        return decode_answer(socket.recv())
    finally:
        context.destroy(linger=0)


def decode_answer(data: bytes) -> Answer:
    """Raises ``WireError`` on anything but an answer of this version."""
    if not data or len(data) > MAX_BYTES or data[0] != VERSION:
        raise WireError("version", "the answer is not of this version of rtpipe")
    try:
        return _answer.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError("header", f"the answer is not understood: {error}") from error
