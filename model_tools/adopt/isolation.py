"""Runs foreign models in a child process with a bound on its memory and its time: an engine that crashes, hangs or swells ends there."""

import multiprocessing
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from fleet_contract.manifest import Manifest, Variant
from model_tools import running
from model_tools.errors import BadInput
from model_tools.running import Tensors


@dataclass(frozen=True)
class Bounds:
    """`memory_mb` of address space, of which an engine maps more than it uses; `time_s` for all samples of one variant."""

    memory_mb: int = 8_192
    time_s: float = 600.0


class Isolated:
    """`run` as running.run, `fixed_rows` as running.fixed_rows, and any other by `ask`, in the child. Raises BadInput for a model that ends or
    outlives it, too."""

    def __init__(self, pool: ProcessPoolExecutor, bounds: Bounds) -> None:
        self._pool, self._bounds = pool, bounds

    def run(self, manifest: Manifest, variant: Variant, model: bytes, inputs: Tensors, *, fused: bool = True) -> dict[str, np.ndarray]:
        return self.ask(variant.name, running.run, manifest, variant, model, inputs, fused=fused)

    def fixed_rows(self, name: str, runtime: str, model: bytes, tensor: str) -> int:
        return self.ask(name, running.fixed_rows, runtime, model, tensor)

    def ask(self, name: str, call, *arguments, **options):
        """Any function of a module in the child; `name` is the model's in errors."""
        try:
            return self._pool.submit(call, *arguments, **options).result(self._bounds.time_s)
        except BrokenProcessPool as error:
            raise BadInput(f"variant {name!r} ends its process: it crashes, or needs too much memory", field=name) from error
        except TimeoutError as error:
            for process in list(self._pool._processes.values()):  # nothing else ends a call that never returns
                process.kill()
            raise BadInput(
                f"variant {name!r} takes longer than {self._bounds.time_s:g} s", field=name, limit=self._bounds.time_s
            ) from error
        except MemoryError as error:
            raise BadInput(
                f"variant {name!r} needs more than {self._bounds.memory_mb} MB", field=name, limit=self._bounds.memory_mb
            ) from error


@contextmanager
def isolated(bounds: Bounds = Bounds()) -> Iterator[Isolated]:
    """One child for all variants of a bundle."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_confine, initargs=(bounds.memory_mb,)) as pool:
        yield Isolated(pool, bounds)


def _confine(memory_mb: int) -> None:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or ONNX Runtime writes a device id under ~/.cache; it reads this once, when it is loaded
    most = memory_mb * 1024**2
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
