import gc
import sys
from collections.abc import Iterator
from functools import cache

import pytest


@pytest.fixture(scope="session", autouse=True)
def exports_cost_no_more_than_they_must() -> Iterator[None]:
    """torch.onnx parses the same five hundred functions of onnxscript for every export, which takes as long as exporting a small network;
    and what is imported by now need not be looked through for garbage each time."""
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        if "torch" in sys.modules:
            from torch.onnx._internal.exporter._registration import onnxscript_apis

            patch.setattr(onnxscript_apis, "get_torchlib_ops", cache(onnxscript_apis.get_torchlib_ops))
        yield
