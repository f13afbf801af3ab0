"""Channels of very different ranges share one int8 scale: rescale them to the same range, exactly, in the weights before and behind.

Cross-layer equalization of Nagel et al. 2019 (arXiv 1906.04721), with measured activations in place of the first layer's weights, as in SmoothQuant
(Xiao et al. 2023, arXiv 2211.10438): a scale per channel costs the layer before nothing, as its weights have one each.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from model_tools.quantize.float_graph import FloatGraph

_KEEPING = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "LeakyRelu")
"""Work on each channel by itself, and any positive factor passes through them."""
_MOST = 1_000.0
_UNEVEN = 2.0


@dataclass(frozen=True)
class _Pair:
    """`first` makes the channels, which are axis 1 of `tensor`, and `second` reads them through nodes that keep them apart."""

    first: onnx.NodeProto
    second: onnx.NodeProto
    tensor: str


def equalize(graph: FloatGraph, peaks: Mapping[str, np.ndarray]) -> FloatGraph | None:
    """The same function of its input, or None where no two layers are so joined or their channels are even. `peaks` are the largest magnitudes
    of each channel, by tensor."""
    weights = dict(graph.weights)
    changed = False
    for pair in _pairs(graph):
        scale = _scale(weights[pair.second.input[1]], pair, peaks.get(pair.tensor))
        if scale is None:
            continue
        _rescale(weights, pair, scale)
        changed = True
    return _with_weights(graph, weights) if changed else None


def _pairs(graph: FloatGraph) -> list[_Pair]:
    outputs = {value.name for value in graph.model.graph.output}
    uses = [name for node in graph.model.graph.node for name in node.input]
    found = []
    for first in graph.layers:
        if first.op_type == "MatMul" or any(uses.count(name) > 1 for name in first.input[1:]):
            continue
        pair = _follow(graph, first, outputs)
        if pair is not None and uses.count(pair.second.input[1]) == 1:
            found.append(pair)
    return found


def _follow(graph: FloatGraph, first: onnx.NodeProto, outputs: set[str]) -> _Pair | None:
    """From the first layer of a pair to the second, if there is one."""
    at = channels = first.output[0]
    while at not in outputs and len(graph.consumers.get(at, ())) == 1:
        (node,) = graph.consumers[at]
        if node in graph.layers and node.input[0] == at:
            return None if _grouped(node) else _Pair(first, node, channels)
        if node.op_type not in (*_KEEPING, "Flatten"):
            return None
        at = node.output[0]
        channels = at if node.op_type in _KEEPING and channels == node.input[0] else channels
    return None


def _grouped(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i != 1 for attribute in node.attribute)


def _scale(weight: np.ndarray, pair: _Pair, peaks: np.ndarray | None) -> np.ndarray | None:
    """What to multiply each channel by: the root of (weights behind / values here), around 1."""
    if peaks is None:
        return None
    behind = np.abs(_by_input(weight, pair.second, len(peaks))).max(axis=1)
    alive = (peaks > 0) & (behind > 0)
    if alive.sum() < 2 or peaks[alive].max() < _UNEVEN * peaks[alive].min():
        return None
    root = np.ones(len(peaks))
    root[alive] = np.sqrt(behind[alive] / peaks[alive].astype(np.float64))
    root[alive] /= np.exp(np.log(root[alive]).mean())
    return np.clip(root, 1 / _MOST, _MOST).astype(np.float32)


def _by_input(weight: np.ndarray, node: onnx.NodeProto, channels: int) -> np.ndarray:
    """(channels, ...): what each channel is multiplied by. A flattened map has several columns a channel."""
    axis = 1 if node.op_type == "Conv" or _transposed(node) else 0
    return np.moveaxis(weight, axis, 0).reshape(channels, -1)


def _transposed(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _rescale(weights: dict[str, np.ndarray], pair: _Pair, scale: np.ndarray) -> None:
    first, second = pair.first, pair.second
    axis = 0 if first.op_type == "Conv" or _transposed(first) else 1
    shape = [-1 if at == axis else 1 for at in range(weights[first.input[1]].ndim)]
    weights[first.input[1]] = weights[first.input[1]] * scale.reshape(shape)
    if len(first.input) > 2 and first.input[2]:
        weights[first.input[2]] = weights[first.input[2]] * scale
    weight = weights[second.input[1]]
    axis = 1 if second.op_type == "Conv" or _transposed(second) else 0
    shape = [-1 if at == axis else 1 for at in range(weight.ndim)]
    weights[second.input[1]] = weight / np.repeat(scale, weight.shape[axis] // len(scale)).reshape(shape)


def _with_weights(graph: FloatGraph, weights: Mapping[str, np.ndarray]) -> FloatGraph:
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in model.graph.initializer:
        if weights[tensor.name] is not graph.weights[tensor.name]:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weights[tensor.name], np.float32), tensor.name))
    return FloatGraph(model)
