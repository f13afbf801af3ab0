"""LiteRT's CompiledModel: the whole graph compiled for an NPU, a GPU or the CPU by the libraries of the package, or of the backend's folder."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
from ai_edge_litert import _pywrap_litert_environment_wrapper as native
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment, EnvironmentOptions
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.options import CpuOptions, Options
from ai_edge_litert.tensor_buffer import TensorBuffer

from edge_agent.errors import Reject
from edge_agent.inference.plan import GraphSignature, Plan
from edge_agent.inference.runtimes import warming
from edge_agent.inference.runtimes.binding import Binding
from edge_agent.inference.runtimes.litert import named, signature_of
from firmware_profiles.availability import find_library
from firmware_profiles.catalog import Backend

_ACCELERATORS = {
    "cpu": HardwareAccelerator.CPU,
    "gpu": HardwareAccelerator.GPU,
    "npu": HardwareAccelerator.NPU,
    "gpu+cpu": HardwareAccelerator.GPU | HardwareAccelerator.CPU,
    "npu+cpu": HardwareAccelerator.NPU | HardwareAccelerator.CPU,
}
_TYPES = {"uint8", "int8", "int32", "float16", "float32"}
"""Of its buffers, as far as Python reaches them in every release since 2.1."""


class CompiledRuntime:
    """Implements port.Runtime. The backend's option `accelerator` says what runs the graph: cpu (the default), gpu or npu the whole of it; with
    +cpu, the CPU what they leave, be it all. `library` is the vendor's dispatch library, the option `compiler` the folder of the vendor's compiler
    for models that are not compiled yet; the worker must then be allowed to read there."""

    def __init__(self, backend: Backend) -> None:
        """Raises Reject (no-variant)."""
        accelerator = backend.options.get("accelerator", "cpu")
        if accelerator not in _ACCELERATORS:
            raise Reject(f"the accelerator {accelerator!r} is none of {', '.join(_ACCELERATORS)}", code="no-variant")
        self._environment = _environment(backend)
        self._accelerator = _ACCELERATORS[accelerator]
        self._model: CompiledModel | None = None
        self._binding: Binding | None = None
        self._inputs: list[str] = []
        self._outputs: list[int] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._buffers: tuple[list[TensorBuffer], list[TensorBuffer]] = ([], [])
        self._results: list[tuple[TensorBuffer, np.dtype, list[int]]] = []
        self._compiled(warming.TFLITE, HardwareAccelerator.CPU, threads=1)

    def load(self, model: bytes, plan: Plan) -> GraphSignature:
        inputs, outputs = named(Interpreter(model_content=model, num_threads=1))  # CompiledModel tells no scales
        signature = signature_of(inputs, outputs)
        binding = Binding(plan, signature)
        foreign = {tensor.dtype for tensor in (*signature.inputs, *signature.outputs)} - _TYPES
        if foreign:
            raise Reject(f"CompiledModel has no buffers of {', '.join(sorted(foreign))}", code="no-variant")
        self._model = self._compiled(model, self._accelerator, plan.threads)
        (names,) = self._model.get_signature_list().values()
        self._inputs = names["inputs"]
        self._outputs = [names["outputs"].index(bound.graph) for bound in plan.outputs]
        self._binding, self._shapes = binding, {}
        return signature

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._binding is None:
            raise Reject("no model is loaded", code="bundle")
        return self._binding.infer(inputs, self._run)

    def unload(self) -> None:
        self._model = self._binding = None
        self._buffers, self._results = ([], []), []

    def _compiled(self, model: bytes, accelerator: HardwareAccelerator, threads: int) -> CompiledModel:
        options = Options(accelerator, cpu_options=CpuOptions(num_threads=threads))
        return CompiledModel.from_buffer(model, environment=self._environment, options=options)

    def _run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        shapes = {name: values.shape for name, values in inputs.items()}
        if shapes != self._shapes:
            self._resize(shapes)
        given, answers = self._buffers
        for name, buffer in zip(self._inputs, given, strict=True):
            buffer.write(inputs[name])
        self._model.run_by_index(0, given, answers)
        return [buffer.read(prod(shape), dtype).reshape(shape) for buffer, dtype, shape in self._results]

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._shapes = {}
        for at, name in enumerate(self._inputs):
            self._model.resize_input_tensor(at, shapes[name], strict=False)
        self._buffers = self._model.create_input_buffers(0), self._model.create_output_buffers(0)
        (key,) = self._model.get_signature_list()
        told = [*self._model.get_output_tensor_details(key).values()]
        self._results = [(self._buffers[1][at], np.dtype(told[at]["dtype"]), told[at]["shape"]) for at in self._outputs]
        self._shapes = shapes


def _environment(backend: Backend) -> Environment:
    """Environment.create would look for vendors' libraries in the package, and again, in vain, behind the walls. Raises Reject (no-variant)."""
    library = None if backend.library is None else find_library(backend.library, Path("/"))
    if backend.library is not None and library is None:
        raise Reject(f"there is no {backend.library}", code="no-variant")
    dispatch = "" if library is None else str(library.parent)
    options = EnvironmentOptions(str(Path(native.__file__).parent), backend.options.get("compiler", ""), dispatch)
    capsule = native.CreateEnvironment(
        runtime_path=options.runtime_path,
        compiler_plugin_path=options.compiler_plugin_path,
        dispatch_library_path=options.dispatch_library_path,
    )
    return Environment(capsule, options)
