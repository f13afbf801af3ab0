"""`python -m bench` lists the benchmarks, `python -m bench NAME` runs one: exit 0 when its aims hold, 1 when one does not, 2 for an unknown name."""

import importlib
import json
import pkgutil
import sys

import bench


def main(arguments: list[str]) -> int:
    names = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if module.name not in ("__main__", "measure"))
    if not arguments:
        for name in names:
            print(f"{name:12} {(importlib.import_module(f'bench.{name}').__doc__ or '').splitlines()[0]}")
        return 0
    if len(arguments) > 1 or arguments[0] not in names:
        print(f"no benchmark {' '.join(arguments)!r}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    return _show(importlib.import_module(f"bench.{arguments[0]}").run())


def _show(report: "bench.measure.Report") -> int:
    widths = [max(len(row[column]) for row in report.table) for column in range(len(report.table[0]))]
    for first, *rest in report.table:
        print(first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)), sep="   ")
    print(json.dumps(report.as_json()))
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
