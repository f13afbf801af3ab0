"""A module as a program: its operations in order, as torch.export sees them; batch norms folded, dropouts gone.

What exports, learns to be quantized or loses channels is this program, so that any network will do, one's own too.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.fx import GraphModule, Node

from model_tools.errors import BadInput, first_line

aten = torch.ops.aten
WEIGHED = {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, aten.linear.default}
"""Their weight's axis 0 is that of their output's channels."""
_GONE = {aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default}
_WEIGHT, _BIAS = 1, 2


def capture(module: nn.Module, probe: torch.Tensor) -> GraphModule:
    """An evaluating program with the weights of `module` (copies), for any number of rows like `probe` (at least 2 rows).

    Raises BadInput for a module that torch.export does not follow, or that takes one number of rows only.
    """
    try:
        exported = torch.export.export(module.eval(), (probe,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"the network does not export: {first_words(error)}", field="train.module") from error
    program = exported.module(check_guards=False)
    # torch forbids these two, as dropouts and batch norms would not follow; nothing here does, once they are gone
    del program.train, program.eval
    _own_weights(program)
    for node in list(program.graph.nodes):
        if node.target in _GONE:
            _skip(node)
        elif node.target is aten.batch_norm.default:
            _fold(program, node)
    program.graph.eliminate_dead_code()
    program.delete_all_unused_submodules()
    program.recompile()
    return program


def weighed(program: GraphModule) -> Iterator[Node]:
    """Convolutions and linear layers whose weights are the program's own, in order."""
    for node in program.graph.nodes:
        if node.target in WEIGHED and node.args[_WEIGHT].op == "get_attr":
            yield node


def weight_of(program: GraphModule, node: Node) -> nn.Parameter:
    return _attribute(program, node.args[_WEIGHT])


def bias_of(program: GraphModule, node: Node) -> nn.Parameter | None:
    found = node.args[_BIAS] if len(node.args) > _BIAS else None
    return None if found is None else _attribute(program, found)


def set_attribute(program: GraphModule, target: str, values: torch.Tensor, learnt: bool = True) -> None:
    """In place of what was there: a parameter where `learnt`, else a buffer."""
    *path, name = target.split(".")
    owner = program.get_submodule(".".join(path))
    if hasattr(owner, name):
        delattr(owner, name)
    if learnt:
        setattr(owner, name, nn.Parameter(values))
    else:
        owner.register_buffer(name, values)


def _own_weights(program: GraphModule) -> None:
    for name, values in list(program.named_parameters()):
        set_attribute(program, name, values.detach().clone())


def _fold(program: GraphModule, norm: Node) -> None:
    """y = (Wx + b - mean) * gain + shift is one layer with the weight W * gain. Left alone where the layer before it feeds others too."""
    layer = norm.args[0]
    if layer.target not in WEIGHED or len(layer.users) > 1 or layer.args[_WEIGHT].op != "get_attr" or len(layer.args[_WEIGHT].users) > 1:
        return
    gain, shift, mean, variance = (None if arg is None else _attribute(program, arg).detach() for arg in norm.args[1:5])
    factor = torch.rsqrt(variance + norm.args[7]) * (1 if gain is None else gain)
    weight, bias = weight_of(program, layer).detach(), bias_of(program, layer)
    before = torch.zeros_like(mean) if bias is None else bias.detach()
    target = layer.args[_WEIGHT].target
    set_attribute(program, target, weight * factor.reshape(-1, *(1 for _ in weight.shape[1:])))
    folded = f"{target}_folded_bias".replace(".", "_")
    set_attribute(program, folded, (before - mean) * factor + (0 if shift is None else shift))
    with program.graph.inserting_before(layer):
        added = program.graph.get_attr(folded)
    layer.args = (*layer.args[:_BIAS], added, *layer.args[_BIAS + 1 :])
    _skip(norm)


def _skip(node: Node) -> None:
    node.replace_all_uses_with(node.args[0])
    node.graph.erase_node(node)


def _attribute(program: GraphModule, node: Node) -> nn.Parameter:
    *path, name = node.target.split(".")
    return getattr(program.get_submodule(".".join(path)), name)


def first_words(error: Exception) -> str:
    """Of an exporter."""
    if "onstraints violated" in str(error):
        return "it takes one number of rows alone (is there a len(), or a reshape to a fixed number?)"
    return first_line(error)
