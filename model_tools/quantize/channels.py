"""Which channels of a program belong together: those that an addition or a depthwise convolution ties can only leave together."""

import math
from dataclasses import dataclass, field

import torch
from torch.fx import GraphModule, Node

from model_tools.export.program import WEIGHED, aten, bias_of, set_attribute, weight_of

_SAME = {
    aten.relu.default,
    aten.relu_.default,
    aten.relu6.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
    aten.hardswish.default,
    aten.hardswish_.default,
    aten.silu.default,
    aten.silu_.default,
    aten.gelu.default,
    aten.elu.default,
    aten.leaky_relu.default,
    aten.leaky_relu_.default,
    aten.sigmoid.default,
    aten.tanh.default,
    aten.clamp.default,
    aten.max_pool1d.default,
    aten.max_pool2d.default,
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_max_pool2d.default,
}
_SUMS = {aten.add.Tensor, aten.add_.Tensor, aten.mul.Tensor}


@dataclass
class Group:
    """Channels 0..size-1 of all these layers' outputs; `made_by` have them as weight axis 0, `read_by` as axis 1, each `repeats` times in a row.
    `held`: something that this module does not know of sees them, so they stay."""

    size: int
    made_by: list[Node] = field(default_factory=list)
    read_by: list[tuple[Node, int]] = field(default_factory=list)
    held: bool = False


def groups_of(program: GraphModule) -> list[Group]:
    """All, in the order of the program. What it answers with is held."""
    return _Walk(program).groups()


def importance(program: GraphModule, group: Group) -> torch.Tensor:
    """Of each channel (size,): the norm of the weights that make it times the norm of those that read it, each relative to its layer's."""
    made = sum(_relative(weight_of(program, node).detach().flatten(1).square().sum(dim=1)) for node in group.made_by)
    read = sum(_relative(_of_readers(program, node, group.size, repeats)) for node, repeats in group.read_by)
    return made * read


def remove(program: GraphModule, group: Group, kept: torch.Tensor) -> None:
    """Leaves the channels `kept` (positions, ascending) alone. Shapes in the program are those of its weights afterwards."""
    for node in group.made_by:
        bias, depthwise = bias_of(program, node), _is_depthwise(program, node)
        set_attribute(program, node.args[1].target, weight_of(program, node).detach()[kept].clone())
        if bias is not None:
            set_attribute(program, node.args[2].target, bias.detach()[kept].clone())
        if depthwise:
            node.args = (*node.args[:6], len(kept))
    for node, repeats in group.read_by:
        rows = (kept[:, None] * repeats + torch.arange(repeats)).flatten()
        set_attribute(program, node.args[1].target, weight_of(program, node).detach()[:, rows].clone())


class _Walk:
    """Follows each group of channels from the layers that make it to those that read it."""

    def __init__(self, program: GraphModule) -> None:
        self._program = program
        self._of: dict[Node, tuple[Group, int]] = {}
        self._joined: list[Group] = []
        for node in program.graph.nodes:
            if node.op in ("call_function", "output"):
                self._visit(node)

    def groups(self) -> list[Group]:
        return [group for group in self._joined if group.made_by]

    def _visit(self, node: Node) -> None:
        inputs = [(n, *self._of[n]) for n in node.all_input_nodes if n in self._of]
        own = node.target in WEIGHED and node.args[1].op == "get_attr" and len(node.args[1].users) == 1
        if own:
            self._layer(node)
        elif node.target in _SAME and inputs:
            self._of[node] = inputs[0][1:]
        elif node.target is aten.flatten.using_ints and inputs and node.args[1:] in ((1,), (1, -1)):
            self._flattened(node, *inputs[0])
        elif node.target is aten.mean.dim and inputs and _keeps_channels(node):
            self._of[node] = inputs[0][1:]
        elif node.target in _SUMS and len(inputs) == len(node.all_input_nodes) == 2 and _shape(inputs[0][0]) == _shape(inputs[1][0]):
            self._tie(node, inputs[0][1:], inputs[1][1:])
        else:
            for _, group, _ in inputs:
                group.held = True

    def _layer(self, node: Node) -> None:
        source, weight = node.args[0], weight_of(self._program, node)
        group, repeats = self._of.get(source, (None, 1))
        if _is_depthwise(self._program, node):
            if group is None:
                return
            group.made_by.append(node)
            self._of[node] = (group, repeats)
            return
        if group is not None:
            fits = _groups(node) == 1 and weight.shape[1] == group.size * repeats and _along_channels(node, source)
            group.read_by.append((node, repeats)) if fits else setattr(group, "held", True)
        made = Group(weight.shape[0], [node], held=_groups(node) != 1 or (node.target is aten.linear.default and len(_shape(node)) != 2))
        self._joined.append(made)
        self._of[node] = (made, 1)

    def _flattened(self, node: Node, source: Node, group: Group, repeats: int) -> None:
        self._of[node] = (group, repeats * math.prod(_shape(source)[2:]))

    def _tie(self, node: Node, one: tuple[Group, int], other: tuple[Group, int]) -> None:
        (first, repeats), (second, again) = one, other
        if first is not second:
            if repeats != again or first.size != second.size:
                first.held = second.held = True
            first.made_by += second.made_by
            first.read_by += second.read_by
            first.held |= second.held
            self._joined.remove(second)
            self._of.update({n: (first, times) for n, (group, times) in self._of.items() if group is second})
        self._of[node] = (first, repeats)


def _of_readers(program: GraphModule, node: Node, size: int, repeats: int) -> torch.Tensor:
    squares = weight_of(program, node).detach().square()
    return squares.reshape(squares.shape[0], size, repeats, -1).sum(dim=(0, 2, 3))


def _relative(squares: torch.Tensor) -> torch.Tensor:
    return (squares / squares.mean().clamp_min(torch.finfo(torch.float32).tiny)).sqrt()


def _shape(node: Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _keeps_channels(node: Node) -> bool:
    """A mean over the axes behind the channels."""
    rank = len(_shape(node.args[0]))
    return rank > 2 and all(axis % rank >= 2 for axis in node.args[1])


def _along_channels(node: Node, source: Node) -> bool:
    return node.target is not aten.linear.default or len(_shape(source)) == 2


def _is_depthwise(program: GraphModule, node: Node) -> bool:
    weight = weight_of(program, node)
    return _groups(node) > 1 and _groups(node) == weight.shape[0] and weight.shape[1] == 1


def _groups(node: Node) -> int:
    return node.args[6] if node.target is not aten.linear.default and len(node.args) > 6 else 1
