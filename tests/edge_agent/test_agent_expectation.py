"""What a caller may ask of a model, and what a worker may answer, whatever it has become. By the signature of each kind of output."""

import numpy as np
import pytest

from edge_agent.errors import Reject, Retry
from edge_agent.inference.expectation import Expectation, expect
from edge_agent.inference.proving import Exam
from fleet_contract.bundle import Bundle
from fleet_contract.inputs import TensorsInput
from fleet_contract.manifest import Manifest, State
from fleet_contract.outputs import Raw
from fleet_contract.tensors import ANY, TensorSpec
from tests.fakes import agent_run_models as models

NAMES = np.array([b"one", b"two"], object)


def _manifest(**changes: object) -> Manifest:
    made = Bundle(models.bundle()).manifest
    fields = {name: getattr(made, name) for name in Manifest.__struct_fields__}
    return Manifest(**{**fields, **changes})


@pytest.fixture(scope="module")
def expected() -> Expectation:
    """Two inputs; a closed, an open, a string and a state output; two known rows."""
    manifest = _manifest(
        input=TensorsInput([TensorSpec("a", "float32", [ANY, 2]), TensorSpec("b", "int64", [ANY, ANY])]),
        output=Raw(
            [
                TensorSpec("closed", "float32", [ANY, 3]),
                TensorSpec("open", "float32", [ANY, ANY, 2], finite=False),
                TensorSpec("names", "string", [ANY]),
            ]
        ),
        states=[State("h", "h_out", "float32", [1, 4])],
    )
    known = {"closed": np.zeros((2, 3), np.float32), "open": np.zeros((2, 5, 2), np.float32), "names": NAMES}
    return expect(manifest, Exam(manifest, {"a": np.zeros((2, 2), np.float32)}, known, 0.0))


def _asked(**changes: object) -> dict:
    return {"a": np.zeros((2, 2), np.float32), "b": np.zeros((2, 9), np.int64)} | changes


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        pytest.param(_asked(), None, id="right"),
        pytest.param({"a": np.zeros((2, 2), np.float32)}, "model-swapped", id="one is missing"),
        pytest.param(_asked(a=np.zeros((2, 3), np.float32)), "model-swapped", id="another length"),
        pytest.param(_asked(b=np.zeros(2, np.int64)), "model-swapped", id="another rank"),
        pytest.param(_asked(a=np.zeros((), np.float32)), "model-swapped", id="no axis at all"),
        pytest.param(_asked(b=np.zeros((3, 9), np.int64)), "bad-input", id="another number of rows"),
    ],
)
def test_what_may_be_asked(expected: Expectation, inputs: dict, code: str | None) -> None:
    if code is None:
        assert expected.rows(inputs) == 2
        return
    with pytest.raises((Retry, Reject)) as refused:
        expected.rows(inputs)
    assert refused.value.code == code


def test_what_is_left_out_is_filled_in_and_what_is_given_stays(expected: Expectation) -> None:
    assert expected.complete(_asked())["h"].tolist() == [[0, 0, 0, 0]]
    assert expected.complete(_asked(h=np.ones((1, 4), np.float32)))["h"].tolist() == [[1, 1, 1, 1]]


def _answer(**changes: object) -> dict:
    right = {
        "closed": np.zeros((2, 3), np.float32),
        "open": np.zeros((2, 7, 2), np.float32),
        "names": NAMES,
        "h_out": np.zeros((1, 4), np.float32),
    }
    return {name: value for name, value in (right | changes).items() if value is not None}


LARGE = np.zeros((2, 7, 200), np.float32)


@pytest.mark.parametrize(
    ("outputs", "code"),
    [
        pytest.param(_answer(), None, id="right"),
        pytest.param(_answer(more=np.zeros(1)), None, id="one that nobody looks at"),
        pytest.param(_answer(open=np.full((2, 1, 2), np.nan, np.float32)), None, id="NaN where the signature allows it"),
        pytest.param(_answer(closed=None), "wrong-answer", id="missing"),
        pytest.param(_answer(h_out=None), "wrong-answer", id="no state"),
        pytest.param(_answer(closed=np.zeros((3, 3), np.float32)), "wrong-answer", id="a row more"),
        pytest.param(_answer(closed=np.zeros((2, 4), np.float32)), "wrong-answer", id="a value more"),
        pytest.param(_answer(closed=np.zeros(6, np.float32)), "wrong-answer", id="another rank"),
        pytest.param(_answer(closed=np.zeros((2, 3))), "wrong-answer", id="another type"),
        pytest.param(_answer(open=np.zeros((2, 7, 3), np.float32)), "wrong-answer", id="another length of a closed axis"),
        pytest.param(_answer(names=np.zeros(2, np.uint8)), "wrong-answer", id="numbers for strings"),
        pytest.param(_answer(h_out=np.zeros((2, 4), np.float32)), "wrong-answer", id="a state of another shape"),
        pytest.param(_answer(closed=np.full((2, 3), np.inf, np.float32)), "non-finite", id="infinity"),
        pytest.param(_answer(h_out=np.full((1, 4), np.nan, np.float32)), "non-finite", id="a state that is no number"),
    ],
)
def test_what_may_be_answered(expected: Expectation, outputs: dict, code: str | None) -> None:
    if code is None:
        return expected.check(outputs, 2)
    with pytest.raises(Reject) as refused:
        expected.check(outputs, 2)
    assert refused.value.code == code


@pytest.mark.parametrize("rows", [1, 100])
def test_one_value_that_is_not_finite_is_found_among_few_and_many(rows: int) -> None:
    manifest = _manifest()
    expected = expect(manifest, Exam(manifest, {"input": models.KNOWN_INPUTS}, {"logits": models.KNOWN_LOGITS}, 0.0))
    answer = np.zeros((rows, 2), np.float32)
    expected.check({"logits": answer}, rows)
    answer[-1, -1] = -np.inf
    with pytest.raises(Reject) as refused:
        expected.check({"logits": answer}, rows)
    assert refused.value.code == "non-finite"


def test_an_answer_has_a_most_of_bytes(expected: Expectation) -> None:
    """Exactly, where the signature is closed; some times what is known, where it is open."""
    closed = _manifest()
    exact = expect(closed, Exam(closed, {"input": models.KNOWN_INPUTS}, {"logits": models.KNOWN_LOGITS}, 0.0))
    assert (exact.max_bytes(1), exact.max_bytes(10)) == (8, 80)
    answer_bytes = sum(values.nbytes for values in _answer().values())
    assert answer_bytes < expected.max_bytes(2) < 16_384
