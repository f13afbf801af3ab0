"""From an encoded image to the graph's input, the same code where a model is trained and where it runs. Needs OpenCV, so only a program that reads
pictures imports this. Size and completeness are read from the headers before a decoder sees the bytes; an animated PNG is refused."""

import struct

import cv2
import numpy as np

from fleet_contract import limits
from fleet_contract.inputs import ImageInput

JPEG = "image/jpeg"
PNG = "image/png"
CORRUPT = "corrupt-image"
TOO_LARGE = "image-too-large"

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_PNG_LAST, _PNG_ANIMATION = b"IEND", b"acTL"
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


class Unreadable(ValueError):
    """`reason` is the stable word of the refusal."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode(data: bytes, spec: ImageInput) -> np.ndarray:
    """uint8 of the specification's layout, which holds a graph's input exactly: decoded to grey or RGB, resized by area. Raises Unreadable."""
    check(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE if spec.channels == 1 else cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise Unreadable(CORRUPT, f"not decodable: {error.err}") from error
    if pixels is None:
        raise Unreadable(CORRUPT, "not decodable")
    return fit(pixels, spec)


def fit(pixels: np.ndarray, spec: ImageInput) -> np.ndarray:
    """uint8 (channels, height, width), or the layout's other order, of OpenCV's uint8 grey or BGR picture."""
    if pixels.shape[:2] != (spec.height, spec.width):
        pixels = cv2.resize(pixels, (spec.width, spec.height), interpolation=cv2.INTER_AREA)
    if spec.channels == 1:
        grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        return np.ascontiguousarray(grey[None] if spec.layout == "nchw" else grey[:, :, None])
    rgb = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1) if spec.layout == "nchw" else rgb)


def check(data: bytes) -> None:
    """A whole JPEG or PNG within the limits of bytes and pixels. OpenCV itself takes a torn file for a grey one. Raises Unreadable."""
    if len(data) > limits.MAX_IMAGE_BYTES:
        raise Unreadable(TOO_LARGE, f"image of {len(data)} bytes, at most {limits.MAX_IMAGE_BYTES}")
    try:
        width, height = _size_of(data)
    except (struct.error, IndexError) as error:
        raise Unreadable(CORRUPT, "the image's headers are torn") from error
    if not (width and height):
        raise Unreadable(CORRUPT, f"image of {width} x {height} pixels")
    if width * height > limits.MAX_IMAGE_PIXELS:
        raise Unreadable(TOO_LARGE, f"image of {width} x {height} pixels, at most {limits.MAX_IMAGE_PIXELS}")


def media_type_of(data: bytes) -> str:
    return PNG if data.startswith(_PNG_START) else JPEG


def encode(values: np.ndarray, spec: ImageInput) -> tuple[str, bytes]:
    """Media type and bytes of a graph input that `fit` made: exactly what the model saw, to whole pixel values."""
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if spec.layout == "nchw":
        pixels = pixels.transpose(1, 2, 0)
    picture = pixels[:, :, 0] if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", picture)
    if data.size > limits.MAX_SAMPLE_BYTES:
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        return JPEG, data.tobytes()
    return PNG, data.tobytes()


def _size_of(data: bytes) -> tuple[int, int]:
    if data.startswith(_PNG_START):
        return _png_size(data)
    if data.startswith(_JPEG_START):
        return _jpeg_size(data)
    raise Unreadable(CORRUPT, "neither JPEG nor PNG")


def _png_size(data: bytes) -> tuple[int, int]:
    """Walks the chunks (PNG, third edition, 5.3): OpenCV sets aside what a chunk says that it holds, up to 4 GB. For an animated PNG it takes six times
    the memory, and some crash it."""
    if _PNG_END not in data[-64:]:
        raise Unreadable(CORRUPT, "the PNG has no end")
    at, kind = len(_PNG_START), b""
    while kind != _PNG_LAST:
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            raise Unreadable(CORRUPT, "the PNG's chunks are torn")
        if kind == _PNG_ANIMATION:
            raise Unreadable(CORRUPT, "an animated PNG is not one picture")
    return struct.unpack_from(">II", data, 16)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walks the segments (ITU-T T.81, B.1.1.4), so that an embedded thumbnail's end does not pass for the picture's."""
    at = len(_JPEG_START)
    size = None
    while True:
        if data[at] != 0xFF:
            raise Unreadable(CORRUPT, "the JPEG's segments are torn")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        at += 2 + length
        if marker == _START_OF_SCAN:
            break
    if size is None or data.rfind(_JPEG_END, at) < 0:
        raise Unreadable(CORRUPT, "the JPEG is cut short")
    return size
