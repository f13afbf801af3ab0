"""What a person may correct an answer to."""

import pytest

from fleet_contract.outputs import Anomaly, Classification, Detection, OutputSpec, Raw, Regression, Threshold, labels_of
from fleet_contract.tensors import TensorSpec


@pytest.mark.parametrize(
    ("output", "labels"),
    [
        pytest.param(Classification("t", ["a", "b"]), ["a", "b"], id="classes"),
        pytest.param(Threshold("t", ("no", "yes")), ["no", "yes"], id="a threshold"),
        pytest.param(Anomaly("t", 0.5), ["normal", "anomaly"], id="an anomaly"),
        pytest.param(Regression("t", ["wear"], [1.0], [0.0], ["mm"]), [], id="figures"),
        pytest.param(Detection("b", "s", ["face"]), [], id="boxes: their labels are not the picture's"),
        pytest.param(Raw([TensorSpec("t", "float32", [-1])]), [], id="tensors"),
    ],
)
def test_the_words_of_an_answer(output: OutputSpec, labels: list[str]) -> None:
    assert labels_of(output) == labels
