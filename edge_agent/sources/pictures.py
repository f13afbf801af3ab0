"""Encoded pictures as inputs. Needs OpenCV, so only what reads pictures imports this."""

from datetime import datetime

from edge_agent.errors import Fatal
from edge_agent.ports import Input
from fleet_contract import images, limits
from fleet_contract.inputs import ImageInput, InputSpec


def need_image(spec: InputSpec, what: str) -> ImageInput:
    """Raises Fatal for a model that is not fed with pictures."""
    if not isinstance(spec, ImageInput):
        raise Fatal(f"{what} feeds pictures, but the model wants columns or tensors: use a csv:, jsonl: or python: source", code="source")
    return spec


def to_input(data: bytes, spec: ImageInput, name: str, at: datetime, cursor: str | None) -> Input:
    """Refused with the reason when it cannot be read. A picture too large for a sample is carried as the model sees it alone."""
    try:
        values = images.decode(data, spec)
    except images.Unreadable as error:
        return Input(name, at, cursor, images.media_type_of(data), data[: limits.MAX_SAMPLE_BYTES], None, error.reason)
    fits = len(data) <= limits.MAX_SAMPLE_BYTES
    return Input(name, at, cursor, images.media_type_of(data), data if fits else b"", values)
