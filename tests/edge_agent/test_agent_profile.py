"""`edge-agent profile`: what there is, what one says, and which fits a board."""

import json
from pathlib import Path

import pytest

from edge_agent import cli
from edge_agent.board import proposed
from firmware_profiles import catalog
from tests.fakes.board_root import board


def test_the_command_proposes_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(board(tmp_path, "fsl,imx93-11x11-evk", "fsl,imx93"))
    assert cli.main(["profile", "detect", "--root", root, "--architecture", "aarch64"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("imx93: NXP i.MX 93")
    assert "because the device tree says fsl,imx93-11x11-evk" in text
    assert "backend litert:ethosu: there is no /dev/ethosu0, libethosu_delegate.so" in text
    assert cli.main(["profile", "detect", "--root", root, "--architecture", "aarch64", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["profile"], told["backends"][1]) == ("imx93", {"backend": "onnxruntime:cpu", "usable": True, "why_not": ""})


@pytest.mark.parametrize(
    ("compatible", "architecture", "name"),
    [
        pytest.param("raspberrypi,5-model-b", "aarch64", "raspberry-pi-5", id="known"),
        pytest.param("acme,rocket", "aarch64", "generic-arm64", id="unknown"),
        pytest.param("acme,rocket", None, "", id="an architecture that no profile is for"),
    ],
)
def test_the_agent_tells_which_board_it_recognised(tmp_path: Path, compatible: str, architecture, name: str) -> None:
    assert proposed(board(tmp_path, compatible), architecture) == name


def test_the_command_lists_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(catalog.names())
    assert cli.main(["profile", "list", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["profiles"]] == catalog.names()
    assert cli.main(["profile", "show", "rk3588"]) == 0
    assert "RKNPU provider is for the RK1808 alone" in capsys.readouterr().out
    assert cli.main(["profile", "show", "rk3588", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["worker"]["affinity"] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["show", "toaster"], "generic-arm64", id="no such profile"),
        pytest.param(["detect", "--root", "/no/such/folder"], "/no/such/folder", id="no such root"),
    ],
)
def test_a_wrong_question_ends_with_code_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", *arguments]) == 2
    assert said in capsys.readouterr().err
