"""Where a program is rounded while it learns: at the very places where ONNX Runtime computes in int8 afterwards."""

from collections.abc import Iterator

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import FakeQuantize, MinMaxObserver, MovingAveragePerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer, SharedQuantizationSpec

from model_tools.export.program import WEIGHED, aten, weighed

_KEY = "quantization_annotation"
_LEAST_SCALE = 2**-30
_ACTIVATIONS = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-128,
    quant_max=127,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=FakeQuantize.with_args(observer=MinMaxObserver, eps=_LEAST_SCALE),
)
_WEIGHTS = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
    observer_or_fake_quant_ctr=FakeQuantize.with_args(
        observer=MovingAveragePerChannelMinMaxObserver, averaging_constant=1, eps=_LEAST_SCALE
    ),
)
_CLIPPING = {aten.relu.default, aten.relu_.default, aten.relu6.default, aten.hardtanh.default, aten.clamp.default, aten.clamp_min.default}
"""They become part of the int8 kernel before them."""
_SUMS = {aten.add.Tensor, aten.add_.Tensor}
_MOVING = {
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.permute.default,
    aten.transpose.int,
    aten.squeeze.dim,
    aten.unsqueeze.default,
}
"""They move int8 values and compute none."""


class Int8(Quantizer):
    """Weights int8 a channel, symmetric; activations int8 a tensor, affine. Products whose sums no int8 operation reads keep them in float, as logits
    do; and what comes before the first product, the normalisation of raw units, stays float whole."""

    def annotate(self, model: GraphModule) -> GraphModule:
        rounded: set[Node] = set()
        for node in model.graph.nodes:
            if node.target in WEIGHED and node.args[1].op == "get_attr":
                _note(node, {node.args[0]: _ACTIVATIONS, node.args[1]: _WEIGHTS}, rounded)
            elif node.target in _SUMS and len(set(node.all_input_nodes)) == 2 and all(n in rounded for n in node.all_input_nodes):
                _note(node, dict.fromkeys(node.all_input_nodes, _ACTIVATIONS), rounded)
            elif node.target in _MOVING and node.args[0] in rounded:
                shared = SharedQuantizationSpec((node.args[0], node))
                node.meta[_KEY] = QuantizationAnnotation({node.args[0]: _ACTIVATIONS}, shared, _annotated=True)
                rounded.add(node)
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to refuse: what is not annotated stays float."""


def has_products(program: GraphModule) -> bool:
    return next(weighed(program), None) is not None


def _note(node: Node, inputs: dict[Node, QuantizationSpec], rounded: set[Node]) -> None:
    """The rounding of a result goes behind the clipping that follows it."""
    node.meta[_KEY] = QuantizationAnnotation(inputs, _annotated=True)
    if not any(later.target in WEIGHED for later in _after(node)):
        return
    end = node
    while len(end.users) == 1 and next(iter(end.users)).target in _CLIPPING:
        end = next(iter(end.users))
    end.meta.setdefault(_KEY, QuantizationAnnotation(_annotated=True)).output_qspec = _ACTIVATIONS
    rounded.add(end)


def _after(node: Node) -> Iterator[Node]:
    seen, waiting = set(), list(node.users)
    while waiting:
        later = waiting.pop()
        if later not in seen:
            seen.add(later)
            waiting += later.users
            yield later
