"""Both layouts of a picture hold the same pixels, and what the model saw can be kept of either."""

import cv2
import numpy as np
import pytest

from fleet_contract import images
from fleet_contract.inputs import ImageInput
from fleet_contract.signature import row_shape


def encoded(channels: int) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 20, channels), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def spec(layout: str, channels: int, height: int = 6, width: int = 10) -> ImageInput:
    return ImageInput(tensor="input", height=height, width=width, channels=channels, layout=layout)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("held", [1, 3], ids=["of grey", "of colour"])
def test_layouts_hold_the_same_pixels(channels: int, held: int) -> None:
    data = encoded(held)
    planes, pixels = (images.decode(data, spec(layout, channels)) for layout in ("nchw", "nhwc"))
    assert (planes.shape, pixels.shape) == (row_shape(spec("nchw", channels)), row_shape(spec("nhwc", channels)))
    np.testing.assert_array_equal(planes.transpose(1, 2, 0), pixels)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_model_saw_is_kept(layout: str, channels: int) -> None:
    wanted = spec(layout, channels)
    values = images.decode(encoded(channels), wanted)
    _, data = images.encode(values, wanted)
    np.testing.assert_array_equal(images.decode(data, wanted), values)
