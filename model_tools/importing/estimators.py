"""Estimators of scikit-learn, kept by skops without pickles, as ONNX through skl2onnx."""

import warnings
from collections.abc import Sequence

import numpy as np
import onnx

from model_tools.errors import BadInput, first_line
from model_tools.importing import onnx_graphs
from model_tools.running import logits as run

_OPSETS = {"": 18, "ai.onnx.ml": 3}
_PROBES = 32
_MOST_DIFFERENCE = 1e-3
_MOST_OFF = 0.1
"""Of made-up rows: trees branch on thresholds, which float32 may miss."""
_KNOWN = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn.neighbors._kd_tree.KDTree",
)
"""Parts of scikit-learn's own estimators that skops leaves for its user to trust."""


def convert(data: bytes, trusted: Sequence[str], classes: Sequence[str]) -> tuple[bytes, list[str], list[str]]:
    """The ONNX bytes, the classes in the order of the logits, and what was done. A classifier's output is the logarithm of its probabilities, an
    outlier detector's the negative of its decision function, so that high means strange.

    `classes` is the order that is wanted; none: the estimator's own. Raises BadInput naming the types that are neither of scikit-learn nor
    in `trusted`, an estimator that skl2onnx cannot convert, other classes, and an ONNX graph that answers otherwise.
    """
    estimator = _load(data, trusted)
    columns = getattr(estimator, "n_features_in_", None)
    if columns is None:
        raise BadInput("the estimator is not fitted, or does not say how many columns it takes", field="model")
    known = [str(one) for one in getattr(estimator, "classes_", ())]
    order = _order(known, classes)
    model = _converted(estimator, columns)
    told = _shaped(model, estimator, order)
    onnx_bytes = onnx_graphs.strip(model).SerializeToString(deterministic=True)
    _check(onnx_bytes, estimator, columns, order)
    return onnx_bytes, [known[at] for at in order] if order else known, told


def _load(data: bytes, trusted: Sequence[str]):
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException, UntrustedTypesFoundException

    try:
        unknown = [one for one in skops.io.get_untrusted_types(data=data) if one not in (*_KNOWN, *trusted)]
        if unknown:
            raise BadInput(
                f"the file needs the types {', '.join(unknown)}; give --trust TYPE for each that you know", field="trust", limit=unknown[0]
            )
        return skops.io.loads(data, trusted=[*_KNOWN, *trusted])
    except (
        UntrustedTypesFoundException,
        UnsupportedTypeException,
        ValueError,
        TypeError,
        KeyError,
        OSError,
        AttributeError,
        ImportError,
    ) as error:
        raise BadInput(f"the .skops file does not load: {error}", field="model") from error


def _converted(estimator, columns: int) -> onnx.ModelProto:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kinds = [(onnx_graphs.INPUT, FloatTensorType([None, columns]))]
            return to_onnx(estimator, initial_types=kinds, options=options, target_opset=_OPSETS)
    except (RuntimeError, ValueError, TypeError, NameError, KeyError, AttributeError, NotImplementedError) as error:
        raise BadInput(f"skl2onnx does not convert {type(estimator).__name__}: {first_line(error)}", field="model") from error


def _shaped(model: onnx.ModelProto, estimator, order: list[int] | None) -> list[str]:
    """One output of float32 called as everybody's."""
    names = [value.name for value in model.graph.output]
    if hasattr(estimator, "classes_"):
        onnx_graphs.as_logits(model, _one_of(names, "probabilit"), order)
        count, told = len(estimator.classes_), ["the logarithm of the probabilities stands for logits"]
    elif hasattr(estimator, "offset_") or "scores" in names:
        model.graph.node.append(onnx.helper.make_node("Neg", [_one_of(names, "score")], [onnx_graphs.OUTPUT]))
        count, told = 1, ["the negative of the decision function is the anomaly score: at or above 0 is strange"]
    else:
        onnx_graphs.rename(model, names[0], onnx_graphs.OUTPUT)
        count, told = 1, []
    del model.graph.output[:]
    shape = ["batch", count]
    model.graph.output.append(onnx.helper.make_tensor_value_info(onnx_graphs.OUTPUT, onnx.TensorProto.FLOAT, shape))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return told


def _one_of(names: Sequence[str], part: str) -> str:
    found = next((name for name in names if part in name), None)
    if found is None:
        raise BadInput(f"the estimator gives {', '.join(names)}, and no {part}ies: set probability=True?", field="model")
    return found


def _order(known: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    if not wanted or not known:
        return None
    if sorted(known) != sorted(wanted):
        raise BadInput(f"the estimator's classes are {', '.join(known)}, the task's {', '.join(wanted)}", field="output.classes")
    return [known.index(one) for one in wanted]


def _check(data: bytes, estimator, columns: int, order: list[int] | None) -> None:
    """On made-up rows, in float32 against scikit-learn's own answers."""
    rows = np.random.default_rng(0).normal(size=(_PROBES, columns)).astype(np.float32)
    said = run(data, rows)
    if hasattr(estimator, "classes_"):
        wanted = estimator.predict_proba(rows)
        said, wanted = np.exp(said), wanted if order is None else wanted[:, order]
    elif hasattr(estimator, "decision_function"):
        wanted = -estimator.decision_function(rows).reshape(-1, 1)
    else:
        wanted = np.asarray(estimator.predict(rows)).reshape(len(rows), -1)
    off = np.abs(said - wanted).max(axis=1) > _MOST_DIFFERENCE * max(1.0, float(np.abs(wanted).max()))
    if off.mean() > _MOST_OFF:
        raise BadInput(
            f"the ONNX graph answers {off.mean():.0%} of made-up rows otherwise than the estimator", field="model", limit=_MOST_OFF
        )
