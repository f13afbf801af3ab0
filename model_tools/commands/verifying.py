"""Whether a bundle is whole and comes from whom it should."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fleet_contract.bundle import Bundle
from model_tools.errors import BadInput
from model_tools.terminal import BundleFile, Json, answer, summary

app = typer.Typer()


@app.command()
def verify(
    bundle: BundleFile,
    releases: Annotated[
        Path | None, typer.Option("--releases", help="Signed releases.json that must list it.", exists=True, dir_okay=False)
    ] = None,
    current: Annotated[
        list[Path] | None, typer.Option("--current", help="Folder of root and targets that say who signs releases.", exists=True)
    ] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", help="An OpenSSF Model Signing bundle.", exists=True, dir_okay=False)
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option("--public-key", help="Of --signature: an EC P-256 key (PEM).", exists=True, dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every digest of a bundle and its bill of materials, and the signatures that are given (exit code 2: something is wrong).

    \b
    Examples:
      model-tools verify digits.bundle
      model-tools verify digits.bundle --releases releases.json --current metadata
      model-tools verify digits.bundle --signature digits.bundle.sig --public-key signing.public.pem --json
    """
    if (releases is None) != (not current) or (signature is None) != (public_key is None):
        raise BadInput(
            "--releases goes with --current, --signature with --public-key", field="releases" if releases or current else "signature"
        )
    opened = Bundle(bundle)
    told: dict[str, object] = {**summary(opened), "digests": "right", "bom": _bom(opened)}
    if releases:
        from model_tools.sign.checking import check_release

        told["releases"] = check_release(opened, releases.read_bytes(), current, datetime.now(UTC))
    if signature:
        from model_tools.sign.openssf import verify_file

        verify_file(bundle, signature, public_key)
        told["signature"] = "right"
    answer(told, as_json)


def _bom(bundle: Bundle) -> str:
    """Raises BadInput for one that breaks its schema."""
    from model_tools.pack import bom

    if bom.ENTRY not in bundle.manifest.entries:
        return "none"
    try:
        problem = bom.problem_of(bundle.read(bom.ENTRY))
    except ImportError:
        return "not checked: cyclonedx-python-lib[json-validation] is not installed"
    if problem:
        raise BadInput(f"{bom.ENTRY} breaks the CycloneDX schema: {problem}", field=bom.ENTRY)
    return "valid"
