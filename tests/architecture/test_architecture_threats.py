"""The attack table of the threat model is whole, and every row of it is held by a test."""

import re

import pytest

from tests.architecture.sources import ROOT

ATTACKS = (
    "unsigned or wrong key",
    "rollback",
    "rollback after local metadata was torn",
    "freeze",
    "fast-forward",
    "mix-and-match",
    "endless data",
    "slow drip",
    "truncation",
    "reset in the middle",
    "compressed bomb",
    "archive with `../` or absolute entries",
    "archive with duplicate, encrypted or compressed entries, or trailing data",
    "role names with `../`, `?`, `#`",
    "target names with `../`, `?`, `#`",
    "stolen snapshot and timestamp keys",
    "stolen targets key, then revoked",
    "one root key stolen",
    "stolen orders key",
    "wrong hardware profile",
    "ONNX external data (`../`, absolute, symlink, hardlink, /proc)",
    "ONNX memory bomb",
    "ONNX endless Loop",
    "unknown op domain",
    "malformed protobuf, msgpack, JSON, deep nesting",
    "replayed order",
    "duplicate QoS 1 message",
    "local user edits a slot file",
    "symlink swapped in between check and use",
    "cloned device key",
)
"""Every one has a row. That the tests which the rows name exist is held for all documents alike."""


def rows() -> dict[str, str]:
    """The last cell of each row of the attack table, by its first."""
    text = (ROOT / "docs/threat-model.md").read_text()
    table = text[text.index("## The attack table") : text.index("## A cloned key")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line.startswith("| ")]
    return {first.removeprefix("| "): rest[-1] for first, *rest in cells if first not in ("attack", "| attack")}


def test_no_attack_is_missing() -> None:
    assert [attack for attack in ATTACKS if attack not in rows()] == []


@pytest.mark.parametrize("attack", rows())
def test_a_row_names_a_test(attack: str) -> None:
    assert re.findall(r"`[a-z_0-9/]+\.py::[a-z_0-9]+`", rows()[attack])
