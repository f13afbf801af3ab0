"""From a checkpoint to a smaller network: rounded while it learns, or without the channels that it can spare."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from model_tools import workbench
from model_tools.errors import BadInput
from model_tools.evaluate.scoring import compare
from model_tools.export.program import capture, set_attribute, weight_of
from model_tools.quantize import channels
from model_tools.task import Task
from model_tools.train.layers import Normalisation
from model_tools.workbench import Splits, Trained, quantize_trained
from tests.fakes import real_tasks


def quiet(share: float, message: str) -> None:
    pass


class Block(nn.Module):
    """A depthwise separable block, whose input is added to its output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
            nn.Conv2d(width, 2 * width, 1),
        )
        self.back = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.back(torch.relu(self.layers(x))))


def residual_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), Block(8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 8), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8, 3)).eval()


def learnt(folder: Path, make: Callable[..., Path], epochs: int = 4, more: str = "") -> tuple[Task, Splits, Trained]:
    task = workbench.load_task(make(folder, more=f"[train]\nepochs = {epochs}\n{more}"))
    splits = workbench.read_splits(task)
    return task, splits, workbench.train(task, splits, quiet)


@pytest.mark.parametrize(
    ("make", "more"),
    [
        pytest.param(
            partial(real_tasks.digit_pictures, rows=600), 'recipe = "image-mobile"\nwidth = 8\n', id="pictures, separable convolutions"
        ),
        pytest.param(real_tasks.gaits, "", id="windows"),
        pytest.param(real_tasks.breast_cancer_anomalies, "", id="anomalies"),
    ],
)
def test_a_network_that_learnt_to_be_rounded(tmp_path: Path, make: Callable[..., Path], more: str) -> None:
    task, splits, trained = learnt(tmp_path, make, more=more)
    found = quantize_trained(task, splits, trained, "qat", quiet)
    output = workbench.output_spec(task, splits, found.fp32)
    one, other = (workbench.evaluate(model, splits.validation, output) for model in (found.fp32, found.made.model))
    assert compare(one, other, output).agreement >= 0.9
    assert len(found.made.model) < len(found.fp32)
    graph = onnx.load_from_string(found.made.model).graph
    back = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    assert all(set(node.input) <= back for node in graph.node if node.op_type in ("Conv", "Gemm"))


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    task, splits, trained = learnt(tmp_path, real_tasks.diabetes, epochs=1)
    one, other = (quantize_trained(task, splits, trained, "qat", quiet, pruned=0.5) for _ in range(2))
    assert one == other
    assert one.made.recipe.title == "50% pruned qat"


def test_pruning_leaves_a_smaller_network_that_answers_the_same(tmp_path: Path) -> None:
    task, splits, trained = learnt(tmp_path, real_tasks.digits, epochs=20)
    found = quantize_trained(task, splits, trained, "float", quiet, pruned=0.5)
    output = workbench.output_spec(task, splits, found.fp32)
    one, other = (workbench.evaluate(model, splits.test, output) for model in (found.fp32, found.made.model))
    assert one.quality - other.quality < 0.02
    assert found.after.multiplications < found.before.multiplications / 2
    assert len(found.made.model) < len(found.fp32) / 2


@pytest.mark.parametrize("share", [-0.1, 0.96, 2], ids=str)
def test_a_share_out_of_range_is_refused(tmp_path: Path, share: float) -> None:
    task = workbench.load_task(real_tasks.iris(tmp_path))
    splits = workbench.read_splits(task)
    network = nn.Sequential(Normalisation(splits.train.inputs), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    trained = Trained(network, "vector-mlp", 0, 8, task.sha256, splits.sha256)
    with pytest.raises(BadInput, match="share") as refused:
        quantize_trained(task, splits, trained, "float", quiet, pruned=share)
    assert refused.value.field == "prune"


def test_nothing_to_spare_is_said(tmp_path: Path) -> None:
    task = workbench.load_task(real_tasks.iris(tmp_path))
    splits = workbench.read_splits(task)
    linear = nn.Sequential(Normalisation(splits.train.inputs), nn.Linear(4, 3)).eval()
    trained = Trained(linear, "vector-mlp", 0, 8, task.sha256, splits.sha256)
    with pytest.raises(BadInput, match="spared"):
        quantize_trained(task, splits, trained, "float", quiet, pruned=0.5)


class TestChannels:
    def test_what_adds_up_leaves_together(self) -> None:
        found = channels.groups_of(capture(residual_network(), torch.randn(4, 1, 8, 8)))
        assert [(group.size, len(group.made_by), [n for _, n in group.read_by], group.held) for group in found] == [
            (8, 3, [1, 4], False),  # first, depthwise and last convolution of the block; read by the wide one, and flattened 2 x 2
            (16, 1, [1], False),
            (8, 1, [1], False),
            (3, 1, [], True),
        ]

    def test_channels_that_say_nothing_can_leave_without_a_trace(self) -> None:
        probe = torch.randn(4, 1, 8, 8)
        program = capture(residual_network(), probe)
        kept = torch.tensor([0, 1, 3, 6])
        group = channels.groups_of(program)[0]
        silent = np.setdiff1d(np.arange(8), kept)
        for node in group.made_by:
            for at in (1, 2):
                weights = program.get_parameter(node.args[at].target).detach().clone()
                weights[silent] = 0
                set_attribute(program, node.args[at].target, weights)
        with torch.inference_mode():
            wanted = program(probe)
        assert channels.importance(program, group)[silent].max() < channels.importance(program, group)[kept].min()
        channels.remove(program, group, kept)
        smaller = capture(program, probe)
        with torch.inference_mode():
            assert torch.allclose(smaller(probe), wanted, atol=1e-5)
        assert weight_of(smaller, group.made_by[0]).shape[0] == 4

    @pytest.mark.parametrize(
        "ending",
        [
            pytest.param(lambda x: x.reshape(x.shape[0], -1), id="a reshape"),
            pytest.param(lambda x: torch.cat([x, x], dim=1).flatten(1), id="a concatenation"),
            pytest.param(lambda x: x.transpose(1, 2).flatten(1), id="other axes"),
        ],
    )
    def test_what_is_not_followed_is_left_whole(self, ending: Callable[[torch.Tensor], torch.Tensor]) -> None:
        class Odd(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first = nn.Conv2d(1, 8, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return ending(torch.relu(self.first(x)))

        found = channels.groups_of(capture(Odd().eval(), torch.randn(4, 1, 6, 6)))
        assert [group.held for group in found] == [True]
