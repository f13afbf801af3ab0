"""From a manifest and a backend to the plan of a worker. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from edge_agent.inference.plan import Bound, Plan
from edge_agent.ports import Tensors
from firmware_profiles.catalog import Backend
from fleet_contract.inputs import ImageInput
from fleet_contract.manifest import Manifest, Variant
from fleet_contract.signature import signature_of
from fleet_contract.tensors import TensorSpec


def plan_of(manifest: Manifest, variant: Variant, backend: Backend, threads: int) -> Plan:
    signature = signature_of(manifest)
    scaling = _scaling(manifest)
    whole = {spec.name for spec in signature.optional} | {state.output for state in manifest.states}
    return Plan(
        inputs=[_bound(spec, variant, whole, *scaling.get(spec.name, (1.0, 0.0))) for spec in (*signature.inputs, *signature.optional)],
        outputs=[_bound(spec, variant, whole) for spec in signature.outputs],
        provider=backend.provider,
        options=backend.options,
        precision=variant.precision,
        threads=threads,
        batch_rows=variant.batch_rows,
    )


def complete(manifest: Manifest, inputs: Tensors) -> dict[str, np.ndarray]:
    """With the states and constants that the caller left out."""
    whole: dict[str, np.ndarray] = {}
    for state in manifest.states:
        whole[state.input] = np.zeros(state.shape, state.dtype)
    for constant in manifest.constants:
        whole[constant.input] = np.array(constant.values).astype(constant.dtype).reshape(constant.shape)
    return {**whole, **inputs}


def left_over(manifest: Manifest, outputs: Tensors) -> dict[str, np.ndarray]:
    """What the next step of the stream is fed with."""
    return {state.input: outputs[state.output] for state in manifest.states}


def _scaling(manifest: Manifest) -> Mapping[str, tuple[float, float]]:
    given = manifest.input
    return {given.tensor: (given.scale, given.offset)} if isinstance(given, ImageInput) else {}


def _bound(spec: TensorSpec, variant: Variant, whole: Collection[str], scale: float = 1.0, offset: float = 0.0) -> Bound:
    return Bound(spec.name, variant.tensors.get(spec.name, spec.name), spec.dtype, scale, offset, rows=spec.name not in whole)
