"""`python -m bench` lists the benchmarks, `python -m bench NAME [OPTION...]` runs one.

Exit 0 when its aims hold or it says why it cannot run here, 1 when an aim does not hold, 2 for an unknown name or option.
"""

import argparse
import importlib
import json
import pkgutil
import signal
import sys
from types import FrameType

import bench
from bench.measure import Report

_NO_BENCH = ("__main__", "disk", "measure", "postgres", "readings", "subject", "syscalls", "updating")


def main(arguments: list[str]) -> int:
    names = sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(bench.__path__) if module.name not in _NO_BENCH)
    if not arguments or arguments[0] in ("-h", "--help"):
        for name in names:
            print(f"{name:14} {_first_line(_module(name))}")
        return 0
    name, *options = arguments
    if name not in names:
        print(f"no benchmark {name!r}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    module = _module(name)
    parser = argparse.ArgumentParser(f"python -m bench {name}", description=_first_line(module))
    if hasattr(module, "add_options"):
        module.add_options(parser)
    return _show(module.run(**vars(parser.parse_args(options))))


def _module(name: str):
    return importlib.import_module(f"bench.{name.replace('-', '_')}")


def _first_line(module) -> str:
    return (module.__doc__ or "").splitlines()[0]


def _show(report: Report) -> int:
    if report.skipped is not None:
        print(f"skipped: {report.skipped}")
    elif report.table:
        widths = [max(len(row[column]) for row in report.table) for column in range(len(report.table[0]))]
        for first, *rest in report.table:
            print(first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)), sep="   ")
    print(json.dumps(report.as_json()))
    return 0 if report.holds else 1


def _end(number: int, _frame: FrameType | None) -> None:
    """Like Ctrl-C: what was started is ended, and folders are removed."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
