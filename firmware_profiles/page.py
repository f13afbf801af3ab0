"""The catalogue as a page of documentation."""

from collections.abc import Iterator, Sequence

from firmware_profiles.catalog import PRECISIONS, Backend, Profile

_HEAD = """# Hardware profiles

This page is made by `python -m firmware_profiles > docs/hardware-profiles.md` from `firmware_profiles/profiles/*.toml`; change it there.

A profile says what a board has, which backends may run a model on it, in order of preference, and how far each may be off. Which one a model really
runs on is measured: on install the agent tries every usable variant on every backend of the profile, each in a sandboxed child of its own, holds it
to the bundle's known answers, and takes the fastest right one. A backend that crashes, hangs, answers wrongly or is not there is reported and left
out. What all devices measured is at `GET /v1/profiles/{name}/measurements` and `GET /v1/bundles/{sha256}/measurements` of the server.

`edge-agent profile detect` proposes the profile of the board it runs on and says why; `edge-agent profile show NAME` prints one.

**Tolerance** is by what share of the largest known answer an answer may be off, by precision of the variant (never less than the variant's own
tolerance). These are this project's choices: fp32 rounding in another order, half precision where an accelerator computes in it, a few steps of an
int8 scale. Worker settings are this project's choices too; a worker's memory is what one model may map beyond the idle engine. `memory` and `cores`
are what a profile counts on: boards are sold with more. Temperatures are where the kernel or the firmware begins to slow the board down, and where
the agent reports an event. None of these boards has been in our hands: the figures come from the linked sources, and the trial on the board decides.
"""


def render(profiles: Sequence[Profile]) -> str:
    """Markdown; the same for the same profiles."""
    return "\n".join([_HEAD, *_overview(profiles), *(line for profile in profiles for line in section(profile))]) + "\n"


def _overview(profiles: Sequence[Profile]) -> Iterator[str]:
    yield "| profile | board | architecture | memory | cores | backends, in order |"
    yield "|---|---|---|---|---|---|"
    for one in profiles:
        usable = ", ".join(f"`{backend.id}`" for backend in one.backends if backend.supported)
        link = f"[{one.name}](#{one.name})"
        yield f"| {link} | {one.title} | {one.architecture} | {one.memory_mb} MB | {one.cores} | {usable} |"
    yield ""


def section(profile: Profile) -> Iterator[str]:
    """The lines on one profile."""
    worker = profile.worker
    cores = f" on cores {', '.join(map(str, worker.affinity))}" if worker.affinity else ""
    yield f"## {profile.name}"
    yield ""
    yield f"{profile.title}. {profile.notes}".strip()
    yield ""
    yield (
        f"Workers: {worker.count} a model, {worker.threads} threads{cores}, nice {worker.nice}, at most {worker.memory_mb} MB. "
        f"Tolerance: {_shares(profile.tolerance)}.{_thermal(profile)}"
    )
    yield ""
    yield "| backend | kind | through | precisions | needs | tolerance of its own |"
    yield "|---|---|---|---|---|---|"
    for backend in profile.backends:
        yield _row(backend)
    yield ""
    for backend in profile.backends:
        if not backend.supported:
            yield f"Not supported, `{backend.id}`: {backend.reason}"
            yield ""
    yield from _links(profile)


def _row(backend: Backend) -> str:
    options = ", ".join(f"{name}={value}" for name, value in backend.options.items())
    through = f"{backend.provider} ({options})" if options else backend.provider
    needs = [*([backend.library] if backend.library else []), *backend.libraries, *backend.files]
    name = f"`{backend.id}`" if backend.supported else f"~~`{backend.id}`~~"
    cells = [name, backend.kind, through, " ".join(backend.precisions), " ".join(f"`{one}`" for one in needs), _shares(backend.tolerance)]
    return f"| {' | '.join(cells)} |"


def _thermal(profile: Profile) -> str:
    if profile.thermal is None:
        return ""
    slows = f"slows down at {profile.thermal.throttle_c:g} °C, " if profile.thermal.throttle_c is not None else ""
    return f" Zone `{profile.thermal.zone}` {slows}limit {profile.thermal.limit_c:g} °C."


def _shares(tolerance: dict) -> str:
    return ", ".join(f"{precision} {tolerance[precision]:g}" for precision in PRECISIONS if precision in tolerance)


def _links(profile: Profile) -> Iterator[str]:
    links = [*profile.sources, *(link for backend in profile.backends for link in backend.sources)]
    if links:
        yield "Sources:"
        yield ""
        yield from (f"- <{link}>" for link in dict.fromkeys(links))
        yield ""
