"""What the boards are: one TOML file a profile. Backends stand in order of preference; what runs on a board is measured there."""

import tomllib
from importlib import resources
from typing import Annotated, Literal

import msgspec

Precision = Literal["fp32", "fp16", "int8"]
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class ProfileError(ValueError):
    """There is no such profile, or its file is wrong."""


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Backend(_Struct):
    """One way to run a model. `provider`: the name of an ONNX Runtime provider; of LiteRT `interpreter` (CPU, or through `library` as external
    delegate) or `compiled` (CompiledModel). `library`: of a delegate, or of a plugin provider to register. `files` and `libraries` must be there
    for the backend to be tried; `devices` are what its worker may open beside. `precisions` are those it is good for.
    `tolerance`, by precision, is the share of the largest known answer by which it may be off: the board's, unless given here."""

    name: str
    runtime: Literal["onnxruntime", "litert"]
    provider: str
    kind: Literal["cpu", "gpu", "npu", "dsp", "tpu"] = "cpu"
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    options: dict[str, str] = {}
    library: str | None = None
    files: list[str] = []
    libraries: list[str] = []
    devices: list[str] = []
    tolerance: dict[Precision, _Share] = {}
    supported: bool = True
    reason: str = ""
    sources: list[str] = []

    @property
    def id(self) -> str:
        return f"{self.runtime}:{self.name}"


class Worker(_Struct):
    """Of each model's worker processes: `count` of them, `threads` each, on these cores (empty: any), at this nice value."""

    memory_mb: _Positive
    count: _Positive = 1
    threads: _Positive = 1
    affinity: list[int] = []
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 0


class Thermal(_Struct):
    """Celsius: where the board begins to slow down, and where it must not go. `zone` is the type of the kernel's thermal zone."""

    throttle_c: float
    limit_c: float
    zone: str = ""


class Signs(_Struct):
    """By what a board is known: device-tree `compatible` strings, words of the DMI product name or of /proc/cpuinfo, files that are there."""

    compatible: list[str] = []
    dmi: list[str] = []
    cpuinfo: list[str] = []
    files: list[str] = []


class Profile(_Struct):
    """`tolerance` by precision: see Backend. `sources` are where the figures come from."""

    name: str
    title: str
    architecture: Literal["x86_64", "aarch64", "armv7l"]
    memory_mb: _Positive
    cores: _Positive
    worker: Worker
    backends: list[Backend]
    tolerance: dict[Precision, _Share]
    thermal: Thermal | None = None
    signs: Signs = Signs()
    notes: str = ""
    sources: list[str] = []

    def tolerance_of(self, backend: Backend, precision: Precision) -> float:
        return backend.tolerance.get(precision) or self.tolerance[precision]


def names() -> list[str]:
    """The known profiles, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> Profile:
    """Raises ProfileError."""
    if name not in names():
        raise ProfileError(f"unknown hardware profile {name!r}; known: {', '.join(names())}")
    try:
        profile = msgspec.convert(tomllib.loads((_folder() / f"{name}.toml").read_text()), Profile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ProfileError(f"profile {name!r}: {error}") from error
    if profile.name != name:
        raise ProfileError(f"profile {name!r} calls itself {profile.name!r}")
    return profile


def _folder():
    return resources.files("firmware_profiles") / "profiles"
