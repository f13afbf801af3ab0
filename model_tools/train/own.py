"""A network of one's own, by the import path that the task file names. Its code runs here: a task file is as trusted as a program."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from model_tools.errors import BadTask

_FIELD = "train.module"


def load_own(path: str, folder: Path, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """What PACKAGE.MODULE:CALLABLE gives for (input shape without rows, number of outputs): it takes normalised float32 (rows, *shape) and gives
    (rows, outputs). Found in `folder`, or else where Python finds modules. Raises BadTask."""
    name, _, callable_name = path.partition(":")
    if not callable_name:
        raise BadTask(f"{path!r} is not PACKAGE.MODULE:CALLABLE", field=_FIELD)
    with _importable(folder, name.partition(".")[0]):
        try:
            make = getattr(importlib.import_module(name), callable_name)
        except (ImportError, SyntaxError, AttributeError) as error:
            raise BadTask(f"cannot import {path!r}: {error}", field=_FIELD) from error
    try:
        module = make(shape, outputs)
    except TypeError as error:
        raise BadTask(f"{path!r} cannot be called with (input shape, outputs): {error}", field=_FIELD) from error
    if not isinstance(module, nn.Module):
        raise BadTask(f"{path!r} gives {type(module).__name__}, not a torch.nn.Module", field=_FIELD)
    _check(module, path, shape, outputs)
    return module


@contextmanager
def _importable(folder: Path, package: str) -> Iterator[None]:
    """Two tasks may each have a model.py: what stands beside the task file counts, and is read anew."""
    beside = (folder / f"{package}.py").exists() or (folder / package).is_dir()
    for name in [name for name in sys.modules if beside and name.partition(".")[0] == package]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _check(module: nn.Module, path: str, shape: tuple[int, ...], outputs: int) -> None:
    training = module.training
    try:
        with torch.inference_mode():
            given = tuple(module.eval()(torch.zeros(2, *shape)).shape)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise BadTask(f"{path!r} does not take float32 of shape (2, {', '.join(map(str, shape))}): {error}", field=_FIELD) from error
    module.train(training)
    if given != (2, outputs):
        raise BadTask(f"{path!r} gives {list(given)} for two rows, not {[2, outputs]}", field=_FIELD, limit=outputs)
