"""Real ONNX models that go wrong in a chosen way at a chosen moment, and are right until then; all on the toy task of agent_run_models."""

from functools import cache

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fleet_contract.manifest import Limits
from tests.fakes import agent_run_models as models

POISON = 9.0
"""The value of an input's column that sets a model off which goes wrong on some inputs only."""
FIRST_CALL = 220
"""A model that goes wrong after a while is right for more calls than a proof makes."""
LAST_CALL = 1_000
LIMITS = Limits(memory_mb=256, latency_ms=8.0)
EFFECTS = ("crash", "hang", "memory", "nan", "wrong", "slow")
_SLOW_ROUNDS = 100_000
"""Of an empty loop: many times ten times the latency limit."""


def model(effect: str, trigger: str) -> bytes:
    """`trigger`: always, on-poison (an input holds POISON), or later (at some call from FIRST_CALL to LAST_CALL on)."""
    nodes, constants = _TRIGGERS[trigger]()
    more, values = _EFFECTS[effect]()
    return models.graph([helper.make_node("MatMul", ["input", "w"], ["m"]), *nodes, *more], {"w": models.WEIGHT} | constants | values)


def nested(depth: int) -> bytes:
    """`If` within `If`."""
    branch = helper.make_graph([helper.make_node("Identity", ["m"], ["out"])], "leaf", [], [_value("out")])
    for level in range(depth - 2):
        inner = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch if not level else _leaf())
        branch = helper.make_graph([inner], f"level{level}", [], [_value("out")])
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["m"]),
        helper.make_node("If", ["yes"], ["logits"], then_branch=branch, else_branch=_leaf()),
    ]
    return models.graph(nodes, {"w": models.WEIGHT, "yes": np.bool_(True)})


def huge_dims() -> bytes:
    """A weight that claims 2**60 values and holds four."""
    loaded = ModelProto.FromString(models.linear())
    loaded.graph.initializer[0].dims[:] = [2**30, 2**30]
    return loaded.SerializeToString()


def tiny_memory_bomb() -> bytes:
    """About a hundred bytes: one ConstantOfShape of 8 GiB."""
    shape = numpy_helper.from_array(np.array([2**31], np.int64), "s")
    graph = helper.make_graph([helper.make_node("ConstantOfShape", ["s"], ["logits"])], "g", [_value("input")], [_value("logits")], [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


Made = tuple[list[NodeProto], dict[str, np.ndarray]]


def _always() -> Made:
    return [helper.make_node("Identity", ["yes"], ["fire"])], {"yes": np.bool_(True)}


def _on_poison() -> Made:
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["top"], keepdims=0),
        helper.make_node("Equal", ["top", "poison"], ["fire"]),
    ]
    return nodes, {"poison": np.float32(POISON)}


def _later() -> Made:
    seed, threshold, _ = _late_draws()
    draw = helper.make_node("RandomUniform", [], ["u"], shape=[1], seed=seed)
    nodes = [draw, helper.make_node("Greater", ["u", "late"], ["late_fire"]), helper.make_node("Squeeze", ["late_fire"], ["fire"])]
    return nodes, {"late": np.float32(threshold)}


def calls_until_late() -> int:
    """How many calls of a new worker come before one that a model which goes wrong `later` answers wrongly, though not for the first time:
    a worker that was lost at the first has been lost once more by then."""
    return _late_draws()[2]


@cache
def _late_draws() -> tuple[float, float, int]:
    """A seed of the engine's generator, a threshold that none of its first FIRST_CALL draws exceeds, and how many draws come before a late one
    that does."""
    for seed in range(1, 1_000):
        node = helper.make_node("RandomUniform", [], ["u"], shape=[1], seed=float(seed))
        graph = helper.make_graph([node], "g", [], [_value("u")])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        draws = [float(session.run(None, {})[0][0]) for _ in range(LAST_CALL)]
        threshold = max(draws[:FIRST_CALL]) + 1e-6
        late = [call for call, draw in enumerate(draws) if draw > threshold]
        if late and late[0] < 2 * FIRST_CALL and late[-1] > 2 * late[0] + FIRST_CALL:
            return float(seed), threshold, late[-1]
    raise LookupError("no seed goes off late")


def _crash() -> Made:
    """The least integer by -1: a trap of the processor on x86-64, which no engine's error handling sees."""
    nodes = [
        helper.make_node("Where", ["fire", "minus", "one"], ["divisor"]),
        helper.make_node("Div", ["least", "divisor"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["q"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["q", "zero"], ["nothing"]),
        helper.make_node("Add", ["m", "nothing"], ["logits"]),
    ]
    return nodes, {"minus": np.int32(-1), "one": np.int32(1), "least": np.int32(-(2**31)), "zero": np.float32(0)}


def _hang() -> Made:
    return [helper.make_node("Loop", ["", "fire", "m"], ["logits"], body=_loop_body())], {}


def _slow() -> Made:
    nodes = [
        helper.make_node("Where", ["fire", "many", "none"], ["rounds"]),
        helper.make_node("Loop", ["rounds", "", "m"], ["logits"], body=_loop_body()),
    ]
    return nodes, {"many": np.int64(_SLOW_ROUNDS), "none": np.int64(0)}


def _memory() -> Made:
    nodes = [
        helper.make_node("Where", ["fire", "gigabytes", "few"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["m", "sum"], ["logits"]),
    ]
    return nodes, {"gigabytes": np.array([2**30], np.int64), "few": np.array([1], np.int64)}


def _added(amount: float) -> Made:
    nodes = [helper.make_node("Where", ["fire", "amount", "zero"], ["d"]), helper.make_node("Add", ["m", "d"], ["logits"])]
    return nodes, {"amount": np.float32(amount), "zero": np.float32(0)}


_TRIGGERS = {"always": _always, "on-poison": _on_poison, "later": _later}
_EFFECTS = {
    "crash": _crash,
    "hang": _hang,
    "memory": _memory,
    "nan": lambda: _added(float("nan")),
    "wrong": lambda: _added(100.0),
    "slow": _slow,
}


def _loop_body():
    return helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Identity", ["x"], ["x_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            _value("x"),
        ],
        [helper.make_tensor_value_info("on_out", TensorProto.BOOL, []), _value("x_out")],
    )


def _leaf():
    return helper.make_graph([helper.make_node("Identity", ["m"], ["out"])], "leaf", [], [_value("out")])


def _value(name: str):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
