"""Servers on loopback that cameras' clients talk to: MJPEG over HTTP, RTSP with H.264, and one that is dead."""

import base64
import io
import socket
import struct
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np

SIZE = (96, 64)


def picture(k, size=SIZE):
    """Picture number k: its number can be read from its left half's grey, a bar moves over the right."""
    image = np.full((size[1], size[0], 3), 20, np.uint8)
    image[:, : size[0] // 2] = 30 + 8 * (k % 25)
    x = size[0] // 2 + 3 * k % (size[0] // 2)
    image[:, x : x + 3] = 220
    return image


def number(image):
    """Which one it is (of 25)."""
    return round((float(np.median(image[8:-8, 8 : image.shape[1] // 2 - 8])) - 30) / 8) % 25


def video(path, frames=20, fps=25):
    """A video file of these pictures."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for k in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(k), "bgr24")))
        out.mux(stream.encode())
    return path


class Server:
    """Accepts connections on loopback, each served by ``serve(socket)`` in a thread; may vanish and come back."""

    def __init__(self, port=0):
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._open, self.going = [self._listener], True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self.going:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self._guarded, args=(client,), daemon=True).start()

    def _guarded(self, client):
        try:
            self.serve(client)
        except OSError:
            pass
        client.close()

    def close(self):
        """Gone: connections break."""
        self.going = False
        for each in self._open:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Dead(Server):
    """Takes connections and says nothing."""

    def serve(self, client):
        while self.going and client.recv(4096):
            pass


class Mjpeg(Server):
    """Pictures at ``rate`` per second as multipart/x-mixed-replace; falls silent where ``silent`` is set."""

    def __init__(self, rate=40, port=0):
        self.rate, self.silent = rate, threading.Event()
        super().__init__(port)

    def serve(self, client):
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n")
        begun = time.monotonic()
        for k in range(1 << 30):
            while self.silent.is_set() and self.going:
                time.sleep(0.05)
            jpeg = cv2.imencode(".jpg", picture(k))[1].tobytes()
            client.sendall(b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg))
            time.sleep(max(0.0, begun + (k + 1) / self.rate - time.monotonic()))


class Rtsp(Server):
    """One H.264 stream by RTSP, interleaved in its TCP connection, at ``rate`` pictures per second. Its RTP clock runs
    at ``speed`` times this computer's."""

    def __init__(self, rate=25, port=0, speed=1.0):
        self.rate, self.speed = rate, speed
        self._encoder = av.CodecContext.create("libx264", "w")
        self._encoder.width, self._encoder.height, self._encoder.pix_fmt = *SIZE, "yuv420p"
        self._encoder.time_base = Fraction(1, rate)
        self._encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "5", "crf": "12"}
        self.sent_ns = {}
        super().__init__(port)

    def serve(self, client):
        stream = client.makefile("rb")
        while True:
            request = stream.readline().decode()
            if not request:
                return
            headers = {}
            while (line := stream.readline().decode().strip()) != "":
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            verb, reply, body = request.split()[0], "", ""
            if verb == "OPTIONS":
                reply = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif verb == "DESCRIBE":
                body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                body += "a=rtpmap:96 H264/90000\r\n"
                body += f"a=fmtp:96 packetization-mode=1{self._parameters()}\r\na=control:track\r\n"
                reply = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif verb == "SETUP":
                reply = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            elif verb == "PLAY":
                reply = "Session: 1\r\n"
            client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {headers.get('cseq', '1')}\r\n{reply}\r\n{body}".encode())
            if verb == "PLAY":
                self._play(client)
            if verb == "TEARDOWN":
                return

    def _parameters(self):
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = *SIZE, "yuv420p", Fraction(1, self.rate)
        encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "x264-params": "annexb=1"}
        units = _units(b"".join(bytes(p) for p in encoder.encode(av.VideoFrame.from_ndarray(picture(0), "bgr24"))))
        sets = [base64.b64encode(unit).decode() for unit in units if unit[0] & 31 in (7, 8)]
        return f";sprop-parameter-sets={','.join(sets)}"

    def _play(self, client):
        begun, sequence = time.monotonic(), 0
        for k in range(1 << 30):
            frame = av.VideoFrame.from_ndarray(picture(k), "bgr24")
            frame.pts = k
            units = _units(b"".join(bytes(packet) for packet in self._encoder.encode(frame)))
            stamp = round(k * 90000 / self.rate * self.speed) & 0xFFFFFFFF
            out = io.BytesIO()
            for i, unit in enumerate(units):
                last = 0x80 if i == len(units) - 1 else 0
                rtp = struct.pack(">BBHII", 0x80, 96 | last, sequence & 0xFFFF, stamp, 7) + unit
                out.write(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
                sequence += 1
            self.sent_ns[k] = time.monotonic_ns()
            client.sendall(out.getvalue())
            time.sleep(max(0.0, begun + (k + 1) / self.rate - time.monotonic()))


def _units(data):
    """The NAL units of a stream with start codes."""
    parts = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]
