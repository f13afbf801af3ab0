"""What sketches follow: each feature moves with what it is named after, and with nothing that does not matter."""

import numpy as np
import pytest

from fleet_contract import features
from fleet_contract.inputs import ImageInput, InputSpec, TensorsInput, VectorInput, WindowInput
from fleet_contract.tensors import TensorSpec

IMAGE = ImageInput(tensor="x", height=16, width=24, channels=3)
VECTOR = VectorInput(tensor="x", columns=["speed", "heat"], low=[0.0, 0.0], high=[1.0, 1.0])
WINDOW = WindowInput(tensor="x", columns=["v", "w"], low=[0, 0], high=[9, 9], length=4, stride=1)


def flat(value: float = 100.0) -> np.ndarray:
    return np.full((1, 3, 16, 24), value, np.float32)


def feature(batch: np.ndarray, name: str) -> float:
    made = features.of_inputs(batch, IMAGE)
    assert made.dtype == np.float32 and made.shape == (1, len(features.IMAGE))
    return float(made[0, features.IMAGE.index(name)])


def ramp(axis: int) -> np.ndarray:
    shape = [1, 1, 1, 1]
    shape[axis] = flat().shape[axis]
    return flat() + np.linspace(-50, 50, shape[axis], dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("name", "batch", "value"),
    [
        pytest.param("brightness", flat(100), 100, id="brightness is the mean"),
        pytest.param("contrast", flat(100), 0, id="a flat picture has no contrast"),
        pytest.param("sharpness", flat(100), 0, id="a flat picture has no edges"),
        pytest.param("light-x", flat(100), 0, id="even light has no side"),
        pytest.param("light-y", flat(100), 0, id="even light has no height"),
        pytest.param("light-x", ramp(2), 0, id="light from below is not from a side"),
        pytest.param("light-y", ramp(3), 0, id="light from a side is not from below"),
    ],
)
def test_image_features(name: str, batch: np.ndarray, value: float) -> None:
    assert feature(batch, name) == pytest.approx(value, abs=1e-3)


def test_light_has_a_direction() -> None:
    assert feature(ramp(3), "light-x") > 10 > -10 > feature(ramp(3)[..., ::-1], "light-x")
    assert feature(ramp(2), "light-y") > 10 > -10 > feature(ramp(2)[:, :, ::-1], "light-y")


def test_blur_takes_sharpness() -> None:
    sharp = np.random.default_rng(1).uniform(0, 255, (1, 3, 16, 24)).astype(np.float32)
    blurred = (sharp + np.roll(sharp, 1, 2) + np.roll(sharp, 1, 3)) / 3
    assert feature(blurred, "sharpness") < 0.8 * feature(sharp, "sharpness")


def test_a_row_is_described_alone() -> None:
    batch = np.random.default_rng(2).uniform(0, 255, (5, 3, 16, 24)).astype(np.float32)
    together = features.of_inputs(batch, IMAGE)
    alone = np.concatenate([features.of_inputs(batch[at : at + 1], IMAGE) for at in range(5)])
    assert together == pytest.approx(alone, rel=1e-5)


def test_a_vector_is_its_own_features() -> None:
    batch = np.array([[1, 2], [3, 4]], np.float32)
    assert features.input_names(VECTOR) == ("speed", "heat")
    assert np.array_equal(features.of_inputs(batch, VECTOR), batch)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        pytest.param(WINDOW, ("v.mean", "v.deviation", "v.step", "w.mean", "w.deviation", "w.step"), id="a window, column by column"),
        pytest.param(TensorsInput([TensorSpec("z", "int8", [-1, 4])]), ("z.mean", "z.deviation"), id="one tensor"),
        pytest.param(TensorsInput([TensorSpec("z", "string", [-1])]), (), id="text"),
        pytest.param(TensorsInput([TensorSpec(n, "int8", [-1]) for n in "ab"]), (), id="several tensors"),
    ],
)
def test_every_kind_of_input_has_names_for_what_is_followed(spec: InputSpec, names: tuple[str, ...]) -> None:
    assert features.input_names(spec) == names
    batch = np.zeros((5, 4, 2) if isinstance(spec, WindowInput) else (5, 4))
    assert features.of_inputs(batch, spec).shape == (5, len(names))


def test_a_window_is_followed_by_column() -> None:
    samples = np.array([[[0, 5], [2, 5], [0, 5], [2, 5]]], np.float32)
    assert features.of_inputs(samples, WINDOW)[0] == pytest.approx([1, 1, 2, 5, 0, 0])


def test_a_flat_window_is_one_of_one_column() -> None:
    flat_window = WindowInput(tensor="x", columns=["v"], low=[0], high=[9], length=4, stride=1, flat=True)
    assert features.of_inputs(np.array([[0, 2, 0, 2]], np.float32), flat_window)[0] == pytest.approx([1, 1, 2])


def test_the_layout_of_a_picture_changes_nothing() -> None:
    pixels = np.random.default_rng(2).uniform(0, 255, (3, 3, 16, 24)).astype(np.float32)
    last = ImageInput(tensor="x", height=16, width=24, channels=3, layout="nhwc")
    assert features.of_inputs(pixels.transpose(0, 2, 3, 1), last) == pytest.approx(features.of_inputs(pixels, IMAGE), rel=1e-5, abs=1e-3)
