"""From any network to ONNX: what holds of the graph, whoever wrote the network."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from model_tools.errors import BadInput
from model_tools.export.graph import export_module
from model_tools.export.program import capture
from model_tools.running import logits

RESIDUAL = '''
import torch
from torch import nn


class Residual(nn.Module):
    """A depthwise separable block, whose input is added to its output."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.deep, self.wide = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.Conv2d(6, 6, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(6)])
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        x = torch.relu(x + self.norms[1](self.wide(nn.functional.relu6(self.norms[0](self.deep(x))))))
        return self.last(x)


def make():
    torch.manual_seed(0)
    network = Residual()
    for norm in network.norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return network.eval()
'''


def residual() -> nn.Module:
    names: dict[str, object] = {}
    exec(RESIDUAL, names)
    return names["make"]()


def alive(network: nn.Module, *shape: int) -> nn.Module:
    """With batch norms that have seen something."""
    network(torch.randn(64, *shape) * 3 + 1)
    return network.eval()


class Waves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(3, 8, 5, padding=2, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.AvgPool1d(2))
        self.last = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers(x.transpose(1, 2)).mean(dim=2))


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.cell(x)[0][:, -1])


@pytest.mark.parametrize(
    ("network", "shape", "norms"),
    [
        pytest.param(residual(), (1, 12, 12), 0, id="a residual block with a depthwise convolution"),
        pytest.param(alive(Waves(), 16, 3), (16, 3), 0, id="windows"),
        pytest.param(Remembering().eval(), (9, 3), 0, id="a recurrent layer"),
        pytest.param(alive(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), 4), (4,), 1, id="a batch norm with nothing before it"),
        pytest.param(
            alive(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6)), 4), (4,), 1, id="a batch norm after the activation"
        ),
    ],
)
def test_a_network_answers_as_onnx_for_any_number_of_rows(network: nn.Module, shape: tuple[int, ...], norms: int) -> None:
    probe = torch.randn(8, *shape, generator=torch.Generator().manual_seed(1))
    model = export_module(network, probe, "input")
    graph = onnx.load_from_string(model).graph
    many = torch.randn(33, *shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert torch.allclose(torch.from_numpy(logits(model, many.numpy())), network(many), atol=1e-4)
    assert [graph.input[0].name, graph.output[0].name] == ["input", "logits"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert sum(node.op_type == "BatchNormalization" for node in graph.node) == norms
    assert not any(node.op_type == "Dropout" for node in graph.node)


@pytest.mark.e2e
def test_another_process_exports_the_same_bytes_and_no_paths(tmp_path: Path) -> None:
    (tmp_path / "own_network.py").write_text(RESIDUAL)
    script = (
        "import sys, torch; from own_network import make; from model_tools.export.graph import export_module;"
        "probe = torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(0));"
        "sys.stdout.buffer.write(export_module(make(), probe, 'input'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": "7"},
    )
    probe = torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    assert done.stdout == export_module(residual(), probe, "input")
    assert not any(word in done.stdout for word in (b"own_network", str(tmp_path).encode(), b"site-packages", b".py"))


class Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(8, -1)


class Deciding(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Exotic(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        pytest.param(Fixed(), "one number of rows", id="a fixed number of rows"),
        pytest.param(Deciding(), "does not export", id="a branch on the values"),
        pytest.param(Exotic(), "bessel_j0", id="an operation that ONNX has not"),
    ],
)
def test_what_does_not_export_is_refused_in_a_line(network: nn.Module, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match=told) as refused:
        export_module(network, torch.randn(8, 4), "input")
    assert refused.value.field == "train.module"
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


def test_a_batch_norm_whose_layer_feeds_others_stays() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            return y + self.norm(y)

    network, probe = alive(Shared(), 4), torch.randn(8, 4)
    with torch.inference_mode():
        assert torch.allclose(capture(network, probe)(probe), network(probe), atol=1e-5)
