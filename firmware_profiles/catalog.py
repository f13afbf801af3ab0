"""What the boards are: one TOML file a profile. Backends stand in order of preference; what runs on a board is measured there."""

import tomllib
from collections.abc import Iterable
from importlib import resources
from typing import Annotated, Literal, get_args

import msgspec

Precision = Literal["fp32", "fp16", "int8"]
Architecture = Literal["x86_64", "aarch64", "armv7l"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_LITERT_PROVIDERS = ("interpreter", "compiled")
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
_Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
_Link = Annotated[str, msgspec.Meta(pattern=r"^https://[^\s|()]+$")]
_Path = Annotated[str, msgspec.Meta(pattern=r"^/[^\s|]+$")]


class ProfileError(ValueError):
    """There is no such profile, or its file is wrong."""


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Backend(_Struct):
    """One way to run a model. `provider`: the name of an ONNX Runtime provider; of LiteRT `interpreter` (CPU, or through `library` as external
    delegate) or `compiled` (CompiledModel). `library`: of a delegate, or of a plugin provider to register. `files` and `libraries` must be there
    for the backend to be tried; `devices` are what its worker may open beside. `precisions` are those it is good for.
    `tolerance`, by precision, is the share of the largest known answer by which it may be off: the board's, unless given here."""

    name: _Word
    runtime: Literal["onnxruntime", "litert"]
    provider: str
    kind: Literal["cpu", "gpu", "npu", "dsp", "tpu"] = "cpu"
    precisions: tuple[Precision, ...] = PRECISIONS
    options: dict[str, str] = {}
    library: str | None = None
    files: list[_Path] = []
    libraries: list[str] = []
    devices: list[_Path] = []
    tolerance: dict[Precision, _Share] = {}
    supported: bool = True
    reason: str = ""
    sources: list[_Link] = []

    def __post_init__(self) -> None:
        if self.runtime == "litert" and self.provider not in _LITERT_PROVIDERS and self.supported:
            raise ValueError(f"provider: {self.provider!r} is none of LiteRT's: {', '.join(_LITERT_PROVIDERS)}")
        if self.runtime == "onnxruntime" and not self.provider.endswith("ExecutionProvider"):
            raise ValueError(f"provider: {self.provider!r} does not end with ExecutionProvider, as all of ONNX Runtime's do")
        if not self.precisions:
            raise ValueError("precisions: a backend is good for one at least")
        if self.supported == bool(self.reason):
            raise ValueError("reason: a backend that is not supported needs one, and no other has any")

    @property
    def id(self) -> str:
        return f"{self.runtime}:{self.name}"


class Worker(_Struct):
    """Of each model's worker processes: `count` of them, `threads` each, on these cores (empty: any), at this nice value."""

    memory_mb: _Positive
    count: _Positive = 1
    threads: _Positive = 1
    affinity: list[Annotated[int, msgspec.Meta(ge=0)]] = []
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 0


class Thermal(_Struct):
    """Celsius: where the board begins to slow down (None: not told), and where it must not go. `zone` is the type of the kernel's thermal zone."""

    zone: str
    limit_c: float
    throttle_c: float | None = None

    def __post_init__(self) -> None:
        if self.throttle_c is not None and not 0 < self.throttle_c <= self.limit_c:
            raise ValueError(f"throttle_c: {self.throttle_c:g} must lie below limit_c {self.limit_c:g}")


class Signs(_Struct):
    """By what a board is known: device-tree `compatible` strings, words of the DMI product name or of /proc/cpuinfo; any of them will do. `files`
    speak for a board beside these, and where it has none of these they must all be there."""

    compatible: list[str] = []
    dmi: list[str] = []
    cpuinfo: list[str] = []
    files: list[_Path] = []


class Profile(_Struct):
    """`tolerance` by precision: see Backend. `memory_mb` and `cores` are what the profile counts on. A `generic` profile is for every board of its
    architecture that none fits better. `sources` are where the figures come from."""

    name: _Word
    title: str
    architecture: Architecture
    memory_mb: _Positive
    cores: _Positive
    worker: Worker
    backends: list[Backend]
    tolerance: dict[Precision, _Share]
    thermal: Thermal | None = None
    signs: Signs = Signs()
    generic: bool = False
    notes: str = ""
    sources: list[_Link] = []

    def __post_init__(self) -> None:
        _check_worker(self.worker, self.memory_mb, self.cores)
        ids = [backend.id for backend in self.backends]
        repeated = sorted({one for one in ids if ids.count(one) > 1})
        if repeated:
            raise ValueError(f"backends: {', '.join(repeated)} stand there twice")
        if not any(backend.supported and backend.kind == "cpu" for backend in self.backends):
            raise ValueError("backends: one of them must be a CPU's, to fall back on")
        if {*self.tolerance} != {*PRECISIONS}:
            raise ValueError(f"tolerance: it needs {', '.join(PRECISIONS)}")
        if not self.generic and not self.sources:
            raise ValueError("sources: where do the figures of a real board come from?")
        if not self.generic and self.signs == Signs():
            raise ValueError("signs: by what is a real board known?")

    def tolerance_of(self, backend: Backend, precision: Precision) -> float:
        return backend.tolerance.get(precision) or self.tolerance[precision]


def names() -> list[str]:
    """The known profiles, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> Profile:
    """Raises ProfileError."""
    if name not in names():
        raise ProfileError(f"unknown hardware profile {name!r}; known: {', '.join(names())}")
    profile = parse((_folder() / f"{name}.toml").read_text(), name)
    if profile.name != name:
        raise ProfileError(f"profile {name!r} calls itself {profile.name!r}")
    return profile


def load_all() -> list[Profile]:
    """Every profile, by name. Raises ProfileError."""
    return [load(name) for name in names()]


def parse(text: str, name: str) -> Profile:
    """Raises ProfileError that begins with `name` and names the field."""
    try:
        return msgspec.convert(tomllib.loads(text), Profile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ProfileError(f"profile {name!r}: {error}") from error


def _check_worker(worker: Worker, memory_mb: int, cores: int) -> None:
    if worker.memory_mb > memory_mb:
        raise ValueError(f"worker.memory_mb: {worker.memory_mb} of a board with {memory_mb}")
    if worker.count * worker.threads > cores:
        raise ValueError(f"worker.threads: {worker.count} workers of {worker.threads} threads on {cores} cores")
    if worker.affinity and not _are_cores(worker.affinity, cores, worker.threads):
        raise ValueError(f"worker.affinity: {worker.affinity} must be distinct, below {cores}, and at least {worker.threads}")


def _are_cores(chosen: Iterable[int], cores: int, threads: int) -> bool:
    distinct = {*chosen}
    return len(distinct) == len([*chosen]) >= threads and max(distinct) < cores


def _folder():
    return resources.files("firmware_profiles") / "profiles"
