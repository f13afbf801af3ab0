"""The commands that release a bundle: its deltas, its signature, its way to the server."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet_contract.bundle import Bundle
from fleet_contract.job import Progress
from model_tools.errors import BadInput
from model_tools.storage import write_whole
from model_tools.terminal import BundleFile, Json, Out, PassphraseFile, answer, passphrase_from, reachable, show, summary

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from model_tools.publish import ReleaseServer

_BASES = 2
"""Deltas are made from so many of the newest bundles: what devices have in their two slots."""

app = typer.Typer()

MaybeKeyFile = Annotated[
    Path | None, typer.Option("--key", help="The releases key, NAME.pem, or NAME.pub of one in a token; it stays with you.")
]
Current = Annotated[
    list[Path] | None,
    typer.Option("--current", help="Folder of root and targets by which --releases is checked, not by this key's signature.", exists=True),
]
Days = Annotated[int, typer.Option("--days", help="How long the signed metadata is valid.", min=1, max=3650)]
DeltaFrom = Annotated[
    list[Path] | None,
    typer.Option("--delta-from", help="A released bundle that devices hold; may be repeated.", exists=True, dir_okay=False),
]
MaybeOut = Annotated[Path | None, typer.Option("--out", help="Where the result goes.", callback=lambda out: out and reachable(out))]


@app.command()
def delta(base: BundleFile, target: BundleFile, out: MaybeOut = None, as_json: Json = False) -> None:
    """Show what a delta from one bundle to another takes, entry by entry, and write it to --out when it saves enough to be published.

    \b
    Example:
      model-tools delta digits-1.0.bundle digits-1.1.bundle
    """
    from model_tools.delta.making import difference

    found = difference(base.read_bytes(), target.read_bytes(), _making)
    if out and found.worthwhile:
        write_whole(out, found.delta)
    entries = {part.entry: {"bytes": part.length, "delta_bytes": part.delta_bytes, "way": part.way} for part in found.parts}
    sizes = {"bytes": len(target.read_bytes()), "blocks_bytes": found.fetched_bytes, "delta_bytes": len(found.delta)}
    answer(
        {**entries, **sizes, "worthwhile": found.worthwhile}
        if not as_json
        else {"entries": entries, **sizes, "worthwhile": found.worthwhile},
        as_json,
    )


@app.command()
def sign(
    bundle: BundleFile,
    out: Out,
    releases: Annotated[
        Path | None, typer.Option("--releases", help="The current signed releases.json.", exists=True, dir_okay=False)
    ] = None,
    key: MaybeKeyFile = None,
    openssf: Annotated[
        Path | None,
        typer.Option("--openssf", help="An EC P-256 key: make an OpenSSF Model Signing bundle instead.", exists=True, dir_okay=False),
    ] = None,
    delta_from: DeltaFrom = None,
    draft: Annotated[
        Path | None, typer.Option("--draft", help="What another holder has signed: add this key's signature.", exists=True)
    ] = None,
    current: Current = None,
    passphrase_file: PassphraseFile = None,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """Add a bundle to the releases metadata and sign the next version of it, without a server; or sign it for others with --openssf.

    The deltas that save enough are written beside --out, and listed in the metadata. Where releases need several signatures, one holder after
    the other signs, from the second on with --draft.

    \b
    Examples:
      model-tools sign digits.bundle --releases releases.json --key releases.pem --out next-releases.json
      model-tools sign digits-2.bundle --delta-from digits-1.bundle --releases releases.json --key releases.pem --out next.json
      model-tools sign digits.bundle --releases releases.json --current current --draft next.json --key releases-2.pem --out next.json
      model-tools sign digits.bundle --openssf signing.pem --out digits.bundle.sig
    """
    if openssf:
        answer(_signed_for_others(bundle, openssf, out, passphrase_file), as_json)
        return
    if releases is None or key is None:
        raise BadInput("give --releases and --key, or --openssf", field="key" if releases else "releases")
    from model_tools.keys import anchor
    from model_tools.sign.releases import add_signature, load_key, missing_signatures, sign_releases

    data, expires = bundle.read_bytes(), datetime.now(UTC) + timedelta(days=days)
    signer, trusted = load_key(key, passphrase_from(False, passphrase_file)), anchor.trusted(current, key.parent) if current else None
    deltas = [] if draft else _deltas([old.read_bytes() for old in delta_from or ()], data)
    if draft:
        signed = add_signature(releases.read_bytes(), draft.read_bytes(), data, signer, trusted)
    else:
        signed = sign_releases(releases.read_bytes(), data, signer, expires, deltas, trusted)
    missing = {"missing_signatures": missing_signatures(signed, trusted.targets.to_bytes())} if trusted else {}
    answer({**_written(bundle, out, signed, deltas), **missing}, as_json)


def _written(bundle: Path, out: Path, signed: bytes, deltas: Sequence[bytes]) -> dict[str, object]:
    files = [out.with_name(f"{bundle.stem}.{number}.delta") for number in range(len(deltas))]
    for file, wire in zip(files, deltas, strict=True):
        write_whole(file, wire)
    write_whole(out, signed)
    return {"file": str(out), "bytes": len(signed), "sha256": Bundle(bundle).sha256, "deltas": [str(file) for file in files]}


def _signed_for_others(bundle: Path, key: Path, out: Path, passphrase_file: Path | None) -> dict[str, object]:
    from model_tools.sign.openssf import sign_file

    opened = Bundle(bundle)
    write_whole(out, sign_file(bundle, key, passphrase_from(False, passphrase_file)))
    return {"file": str(out), "sha256": opened.sha256}


@app.command()
def publish(
    bundle: BundleFile,
    server: Annotated[str, typer.Option("--server", help="The fleet server, https://host:port.")],
    key: MaybeKeyFile = None,
    signed_file: Annotated[
        Path | None, typer.Option("--signed", help="Releases that `sign` has made, instead of --key.", exists=True)
    ] = None,
    delta_files: Annotated[list[Path] | None, typer.Option("--delta", help="Delta file that goes with --signed.", exists=True)] = None,
    passphrase_file: PassphraseFile = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="The fleet CA (PEM), the only one that is trusted.", exists=True)] = None,
    token_file: Annotated[Path | None, typer.Option("--token-file", help="Holds the API token; else EDGEFLEET_TOKEN.")] = None,
    rollout: Annotated[bool, typer.Option("--rollout", help="Also start an approved rollout of the bundle.")] = False,
    delta_from: DeltaFrom = None,
    no_delta: Annotated[bool, typer.Option("--no-delta", help="Make no deltas.")] = False,
    days: Days = 365,
    as_json: Json = False,
) -> None:
    """Sign a bundle into the server's releases and upload both. Safe to repeat: what is released already is not sent again.

    Deltas from the newest released bundles of the task go with it where they save enough; --delta-from names other bundles.

    \b
    Example:
      model-tools publish digits.bundle --server https://fleet:8443 --ca ca.pem \\
        --token-file token --key keys/releases.pem --rollout
    """
    from model_tools.publish import ReleaseServer, read_token
    from model_tools.sign.releases import is_released, load_key

    if (key is None) == (signed_file is None):
        raise BadInput("give either --key, or --signed with what has been signed", field="key")
    data, told = bundle.read_bytes(), {}
    signer = load_key(key, passphrase_from(False, passphrase_file)) if key else None
    with ReleaseServer(server, ca, read_token(token_file, os.environ.get("EDGEFLEET_TOKEN"))) as fleet:
        if signer:
            old = None if no_delta else [path.read_bytes() for path in delta_from or ()]
            release = _signed_now(fleet, data, signer, old, datetime.now(UTC) + timedelta(days=days))
        elif is_released(fleet.releases(), data, None):
            release = None
        else:
            release = _Signed(signed_file.read_bytes(), [path.read_bytes() for path in delta_files or ()])
        if release:
            told["bundle"] = _upload(fleet, bundle.name, data, release)
            told["deltas"] = [len(wire) for wire in release.deltas]
        if rollout:
            told["rollout"] = fleet.roll_out(Bundle(data).sha256, approved=True)
    answer({**summary(Bundle(data)), **told}, as_json)


@dataclass(frozen=True)
class _Signed:
    releases: bytes
    deltas: Sequence[bytes]


def _signed_now(fleet: "ReleaseServer", data: bytes, signer: "Signer", old: Sequence[bytes] | None, expires: datetime) -> _Signed | None:
    """None when the bundle is released already; `old` are the bundles for deltas, of those that the server has when it is empty."""
    from model_tools.sign.releases import is_released, sign_releases

    current = fleet.releases()
    if is_released(current, data, signer):
        return None
    deltas = _deltas([] if old is None else old or _newest(fleet, data, current, signer), data)
    return _Signed(sign_releases(current, data, signer, expires, deltas), deltas)


def _upload(fleet: "ReleaseServer", name: str, data: bytes, release: _Signed) -> dict:
    """Raises BadInput while signatures are missing. The server's own word on that is not trusted, it only saves the way."""
    from model_tools.sign.releases import missing_signatures

    missing = missing_signatures(release.releases, fleet.targets())
    if missing:
        raise BadInput(
            f"signatures that are still missing: {missing}. `model-tools sign` by one holder, `sign --draft` by the others, then `publish --signed`",
            field="signed",
            limit=missing,
            code="unsigned",
        )
    return fleet.upload(name, data, release.releases, release.deltas)


def _deltas(bases: Sequence[bytes], data: bytes) -> list[bytes]:
    """Those that save enough."""
    if not bases:
        return []
    from model_tools.delta.making import make

    made = {base: make(base, data, _making) for base in dict.fromkeys(bases)}
    return [wire for wire in made.values() if wire is not None]


def _newest(fleet: "ReleaseServer", data: bytes, current: bytes, signer: "Signer") -> list[bytes]:
    from model_tools.sign.releases import released_bundles

    released = released_bundles(current, signer)
    return [fleet.archive(sha256) for sha256 in fleet.newest(Bundle(data).manifest.task, _BASES) if sha256 in released]


def _making(share: float, message: str) -> None:
    show(Progress("delta", share, message))
