"""The house's own rules: small functions, one idea a module, no drawers, nothing printed, no error swallowed."""

import ast
import re
from collections import Counter

from fleet_contract import limits
from tests.architecture.sources import ROOT, functions, modules, place, tree_of

MAX_FUNCTION_LINES = 50
MAX_USUAL_FUNCTION_LINES = 25
USUAL_SHARE = 0.9
MAX_MODULE_LINES = 300
DRAWERS = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "base", "misc", "core", "shared", "stuff"}
MAX_BROAD_EXCEPTS = 1
"""In one module: its long-running loop's."""

UNITS = {
    *("BYTES", "CHARS", "S", "COUNT", "EDGE", "SCALE"),
    *(
        "RECORDS",
        "ENTRIES",
        "FEATURES",
        "BINS",
        "PIXELS",
        "VALUES",
        "ROWS",
        "REQUEST",
        "COLUMNS",
        "CLASSES",
        "RANK",
        "CONDITIONS",
        "PACKETS",
        "PACKET",
        "RELEASE",
        "OPERATIONS",
    ),
}


def lengths() -> dict[str, int]:
    return {f"{place(path, node)} {node.name}": node.end_lineno - node.lineno + 1 for path in modules() for node in functions(path)}


def test_no_function_is_long() -> None:
    assert {name: lines for name, lines in lengths().items() if lines > MAX_FUNCTION_LINES} == {}


def test_nine_functions_in_ten_are_short() -> None:
    measured = lengths()
    assert sum(lines < MAX_USUAL_FUNCTION_LINES for lines in measured.values()) >= USUAL_SHARE * len(measured)


def test_no_module_is_long() -> None:
    found = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert {name: lines for name, lines in found.items() if lines > MAX_MODULE_LINES} == {}


def test_no_module_is_a_drawer() -> None:
    assert [str(path) for path in modules() if {path.stem, path.parent.name} & DRAWERS] == []


def test_nothing_is_printed_but_by_command_lines() -> None:
    printed = [
        place(path, node)
        for path in modules()
        if path.name != "cli.py"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printed == []


def _is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")) for kind in kinds)


def broad_excepts() -> list[tuple[str, str]]:
    """(module, the line of source) of each that does not raise again."""
    return [
        (str(path.relative_to(ROOT)), path.read_text().splitlines()[node.lineno - 1])
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not any(isinstance(step, ast.Raise) for step in ast.walk(node))
    ]


def test_a_broad_except_is_rare_and_says_why() -> None:
    found = broad_excepts()
    assert [line for _, line in found if not re.search(r"#\s*(noqa: BLE001\W+)?\w+ \w+", line)] == []
    assert {name: count for name, count in Counter(name for name, _ in found).items() if count > MAX_BROAD_EXCEPTS} == {}


def test_nothing_is_validated_by_assert() -> None:
    assert [place(path, node) for path in modules() for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert)] == []


def limit_names() -> list[str]:
    return [name for name in vars(limits) if name.isupper() and name not in ("KIB", "MIB")]


def test_every_limit_is_used() -> None:
    sources = [path.read_text() for path in modules() if path.name != "limits.py"]
    assert [name for name in limit_names() if not any(re.search(rf"\b{name}\b", text) for text in sources)] == []


def test_every_limit_says_what_it_counts() -> None:
    assert [name for name in limit_names() if name.rpartition("_")[2] not in UNITS] == []


def test_sources_name_no_work_in_progress() -> None:
    told = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [str(path) for path in modules() if told.search(path.read_text())] == []


def test_a_test_module_has_a_name_of_its_own() -> None:
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
