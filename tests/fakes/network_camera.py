"""Network cameras on loopback: JPEG over HTTP (multipart), and over RTSP (RFC 2326, interleaved in its own TCP connection; RTP payload of RFC 2435)."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import cv2
import numpy as np

PATIENCE_S = 30.0
_BOUNDARY = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\nc=IN IP4 0.0.0.0\r\na=control:0\r\na=framerate:25\r\n"
_PUBLIC = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
_QUALITY_TABLES_FOLLOW = 255
_CHUNK_BYTES = 1_200


def grey_level(level: int) -> bytes:
    """A JPEG of 64 x 48 pixels in one grey."""
    return cv2.imencode(".jpg", np.full((48, 64, 3), level, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


@dataclass
class NetworkCamera:
    """Sends each caller pictures until it is unplugged; whoever comes then is not let in, until it is plugged in again."""

    url: str
    _plugged: threading.Event = field(default_factory=threading.Event)
    _callers: list[socket.socket] = field(default_factory=list)

    def unplug(self) -> None:
        self._plugged.clear()
        for caller in self._callers:
            with suppress(OSError):
                caller.shutdown(socket.SHUT_RDWR)

    def plug_in(self) -> None:
        self._plugged.set()


@contextmanager
def running(scheme: str, level: int) -> Iterator[NetworkCamera]:
    """`scheme` is http or rtsp."""
    listener = socket.create_server(("127.0.0.1", 0))
    camera = NetworkCamera(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/live")
    camera.plug_in()
    speak = _speak_http if scheme == "http" else _speak_rtsp
    acceptor = threading.Thread(target=_accept, args=(listener, camera, speak, grey_level(level)))
    acceptor.start()
    try:
        yield camera
    finally:
        camera.unplug()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(PATIENCE_S)


def _accept(listener: socket.socket, camera: NetworkCamera, speak: Callable, picture: bytes) -> None:
    threads: list[threading.Thread] = []
    with suppress(OSError):
        while True:
            caller, _ = listener.accept()
            caller.settimeout(PATIENCE_S)
            if not camera._plugged.is_set():
                caller.close()
                continue
            camera._callers.append(caller)
            threads.append(threading.Thread(target=_serve, args=(caller, camera, speak, picture)))
            threads[-1].start()
    for thread in threads:
        thread.join(PATIENCE_S)


def _serve(caller: socket.socket, camera: NetworkCamera, speak: Callable, picture: bytes) -> None:
    with suppress(OSError, ValueError), caller, caller.makefile("rb") as reader:
        speak(caller, reader, camera, picture)


def _speak_http(caller: socket.socket, reader, camera: NetworkCamera, picture: bytes) -> None:
    _request(reader)
    caller.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
    while camera._plugged.is_set():
        caller.sendall(_BOUNDARY % len(picture) + picture + b"\r\n")


def _speak_rtsp(caller: socket.socket, reader, camera: NetworkCamera, picture: bytes) -> None:
    while True:
        method, fields = _request(reader)
        answer = [f"CSeq: {fields['cseq']}", "Session: 1"]
        body = ""
        match method:
            case "OPTIONS":
                answer.append(_PUBLIC)
            case "DESCRIBE":
                body = _SDP
                answer += ["Content-Type: application/sdp", f"Content-Base: {camera.url}/", f"Content-Length: {len(body)}"]
            case "SETUP":
                answer.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        caller.sendall(("\r\n".join(["RTSP/1.0 200 OK", *answer, "", ""]) + body).encode())
        if method == "PLAY":
            break
    for number in range(1_000_000):
        if not camera._plugged.is_set():
            return
        for packet in _rtp(picture, number):
            caller.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)


def _request(reader) -> tuple[str, dict[str, str]]:
    """The method, and the fields by their names in lower case. Raises ValueError at the end of the stream."""
    first, *lines = iter(lambda: reader.readline().decode().strip(), "")
    fields = dict(line.split(": ", 1) for line in lines)
    return first.split()[0], {name.lower(): value for name, value in fields.items()}


def _rtp(picture: bytes, number: int) -> Iterator[bytes]:
    """RFC 2435: the main header, in the first packet the quantization tables, then the entropy-coded scan."""
    height, width, is_420, tables, scan = _parts(picture)
    packets = [scan[at : at + _CHUNK_BYTES] for at in range(0, len(scan), _CHUNK_BYTES)]
    at = 0
    for index, part in enumerate(packets):
        is_last = index == len(packets) - 1
        head = struct.pack(">BBHII", 0x80, 26 | is_last << 7, (number * len(packets) + index) & 0xFFFF, number * 3_600 & 0xFFFFFFFF, 1)
        main = struct.pack(">BBHBBBB", 0, at >> 16, at & 0xFFFF, int(is_420), _QUALITY_TABLES_FOLLOW, width // 8, height // 8)
        extra = struct.pack(">BBH", 0, 0, len(tables)) + tables if at == 0 else b""
        yield head + main + extra + part
        at += len(part)


def _parts(picture: bytes) -> tuple[int, int, bool, bytes, bytes]:
    """Height, width, whether colour is subsampled in both directions, the quantization tables and the scan of a baseline JPEG."""
    at, tables, height, width, is_420 = 2, b"", 0, 0, False
    while True:
        marker, length = picture[at + 1], struct.unpack_from(">H", picture, at + 2)[0]
        content = picture[at + 4 : at + 2 + length]
        if marker == 0xDB:
            tables += b"".join(content[start + 1 : start + 65] for start in range(0, len(content), 65))
        if marker == 0xC0:
            height, width = struct.unpack_from(">HH", content, 1)
            is_420 = content[7] == 0x22
        at += 2 + length
        if marker == 0xDA:
            return height, width, is_420, tables, picture[at:-2]
