"""What the boards are: one TOML file a profile. Backends stand in order of preference."""

import tomllib
from importlib import resources

import msgspec


class ProfileError(ValueError):
    """There is no such profile, or its file is wrong."""


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`backends` are `runtime:provider`; `tolerance` is the largest absolute difference that a known answer may show, by precision."""

    name: str
    title: str
    architecture: str
    memory_mb: int
    cores: int
    backends: list[str]
    threads: int
    worker_memory_mb: int
    tolerance: dict[str, float] = {}


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
