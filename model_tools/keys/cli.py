"""`model-tools keys`: what the holders of the offline keys do. Answers on stdout; prompts and what to do next on stderr."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from model_tools.errors import BadInput
from model_tools.keys.passphrases import Passphrase
from model_tools.terminal import Json, PassphraseFile, answer, passphrase_from

if TYPE_CHECKING:
    from model_tools.keys.chain import Chain, Draft

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="The fleet's offline keys: ceremony, rotation, revocation, signatures. See docs/keys.md.",
)

Keys = Annotated[Path, typer.Option("--keys", help="The folder of key files.")]
HeldKeys = Annotated[Path, typer.Option("--keys", help="The folder of key files.", exists=True, file_okay=False)]
Current = Annotated[list[Path], typer.Option("--current", help="Folder of the newest metadata; may be repeated.", exists=True)]
Out = Annotated[Path, typer.Option("--out", help="Folder for the new metadata files.")]
Days = Annotated[int, typer.Option("--days", help="How long the new metadata is valid.", min=1, max=3650)]
Plain = Annotated[bool, typer.Option("--plain", help="Leave new keys unencrypted. For trying out only.")]
_YEAR_DAYS = 365


@app.command()
def create(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As root-2, targets, releases.")],
    keys: Keys,
    hsm: Annotated[str | None, typer.Option("--hsm", help="Use the key hsm:ID?label=TOKEN (PYKCS11LIB names the library).")] = None,
    plain: Plain = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make keys, NAME.pem with the key and NAME.pub that says what it is; with --hsm the key stays in its token.

    \b
    Examples:
      model-tools keys create root-2 --keys /media/usb/keys
      model-tools keys create root-1 --keys keys --hsm 'hsm:2?label=fleet-root'
    """
    from model_tools.keys.store import KeyStore

    if hsm and len(names) != 1:
        raise BadInput("one key of a token at a time", field="hsm", limit=1)
    store, passphrase = KeyStore(keys), passphrase_from(plain, passphrase_file)
    made = [store.adopt(name, hsm, passphrase) if hsm else store.create(name, passphrase) for name in names]
    answer({"keys": {key.name: key.key.keyid for key in made}}, as_json)
    _advise("Give the .pub files to whoever holds the ceremony; keep the .pem files to yourself.")


@app.command()
def openssf(
    name: Annotated[str, typer.Argument(help="As model-signing.")],
    keys: Keys,
    plain: Plain = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make an EC P-256 key for `model-tools sign --openssf`: NAME.pem with the key, and NAME.public.pem for those who verify.

    \b
    Example:
      model-tools keys openssf model-signing --keys keys
    """
    from fleet_contract import names
    from model_tools.sign.openssf import create_key

    private, public = create_key(keys, names.name(name, "key"), passphrase_from(plain, passphrase_file))
    answer({"key": str(private), "public": str(public)}, as_json)


@app.command()
def ceremony(
    online: Annotated[Path, typer.Option("--online", help="online.json of the server.", exists=True, dir_okay=False)],
    keys: Keys,
    out: Out,
    root_keys: Annotated[int, typer.Option("--root-keys", min=1, max=16)] = 3,
    root_threshold: Annotated[int, typer.Option("--root-threshold", min=1, max=16)] = 2,
    releases: Annotated[int, typer.Option("--releases", help="Number of releases keys.", min=1, max=16)] = 1,
    releases_threshold: Annotated[int, typer.Option("--releases-threshold", min=1, max=16)] = 1,
    days: Days = _YEAR_DAYS,
    plain: Plain = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Begin a fleet: root, targets and releases metadata, with the keys in --keys; those that are not there yet are made.

    \b
    Example:
      model-tools keys ceremony --online online.json --keys keys --out genesis
    """
    from fleet_contract import online_keys
    from model_tools.keys import changing
    from model_tools.keys.store import KeyStore

    store, passphrase = KeyStore(keys), passphrase_from(plain, passphrase_file)
    if out.exists() and any(out.glob("*.json")):
        raise BadInput(f"{out} already holds metadata; nothing is ever overwritten", field="out")

    def make(name: str):
        return (store.load(name) if name in store else store.create(name, passphrase)).key

    shape = changing.Shape(root_keys, root_threshold, releases, releases_threshold)
    draft = changing.ceremony(shape, online_keys.decode(online.read_bytes()), make, _expiry(days))
    _finish(draft, None, out, store.folder, passphrase, as_json)


@app.command()
def rotate(
    role: Annotated[str, typer.Argument(help="root, targets, releases, snapshot, timestamp or orders.")],
    current: Current,
    keys: HeldKeys,
    out: Out,
    key: Annotated[str | None, typer.Option("--key", help="The key that goes, where the role has more than one.")] = None,
    new: Annotated[str | None, typer.Option("--new", help="Name of the new key; made unless it is in --keys.")] = None,
    threshold: Annotated[int | None, typer.Option("--threshold", help="Signatures that the role needs from now on.", min=1)] = None,
    online: Annotated[Path | None, typer.Option("--online", help="online.json, for a key of the server's.", exists=True)] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="Target that the new releases no longer have.")] = None,
    days: Days = _YEAR_DAYS,
    plain: Plain = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Put a new key in the place of an old one, which is worth nothing once devices have seen the new metadata.

    \b
    Examples:
      model-tools keys rotate root --key root-2 --current current --keys keys --out next
      model-tools keys rotate timestamp --online online.json --current current --keys keys --out next
    """
    from fleet_contract import online_keys
    from model_tools.keys import anchor, changing, metadata
    from model_tools.keys.store import KeyStore

    store, passphrase, before = KeyStore(keys), passphrase_from(plain, passphrase_file), anchor.trusted(current, keys)
    if online:
        draft = changing.rotate_online(before, metadata.online_role(role), online_keys.decode(online.read_bytes()), _expiry(days))
    else:
        metadata.offline_role(role)
        changing.leaving(before, role, key, threshold)  # no key is made for what cannot be
        name = new or changing.fresh_name(role, before, store)
        stored = store.load(name) if name in store else store.create(name, passphrase)
        draft = changing.rotate_offline(before, role, key, stored.key, threshold, _expiry(days))
    _finish(metadata.without_targets(draft, drop or ()), before, out, keys, passphrase, as_json)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's name or the beginning of its id.")],
    current: Current,
    keys: HeldKeys,
    out: Out,
    days: Days = _YEAR_DAYS,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Take a key away without a new one; refused where too few would be left (then: rotate).

    \b
    Example:
      model-tools keys revoke root-2 --current current --keys keys --out next
    """
    from model_tools.keys import anchor, changing

    before = anchor.trusted(current, keys)
    _finish(changing.revoke(before, key, _expiry(days)), before, out, keys, passphrase_from(False, passphrase_file), as_json)


@app.command()
def renew(
    roles: Annotated[list[str], typer.Argument(metavar="ROLE...", help="root, targets, releases.")],
    current: Current,
    keys: HeldKeys,
    out: Out,
    days: Days = _YEAR_DAYS,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Sign the same again with a later expiry.

    \b
    Example:
      model-tools keys renew root targets --current current --keys keys --out next
    """
    from model_tools.keys import anchor, metadata

    before = anchor.trusted(current, keys)
    _finish(metadata.renew(before, roles, _expiry(days)), before, out, keys, passphrase_from(False, passphrase_file), as_json)


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(help="N.root.json, N.targets.json or N.releases.json.", exists=True, dir_okay=False)],
    key: Annotated[Path, typer.Option("--key", help="NAME.pem or NAME.pub of the key that signs.")],
    current: Annotated[list[Path] | None, typer.Option("--current", help="Folder of the metadata before it.", exists=True)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether the changes are wanted.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Add one more signature to a file that others have signed, after showing what it changes.

    \b
    Example:
      model-tools keys sign next/2.root.json --key keys/root-3.pem --current current
    """
    from model_tools.keys import anchor, chain, picture, signing, store

    role, holder = chain.role_of(file), store.load(key)
    before = anchor.trusted(current, holder.folder) if current else None
    after = chain.read(*(current or ()), file.parent)
    if before is None:
        anchor.check_genesis(after, holder.folder)
    if chain.name_of(role, after.newest(role)) != file.name:
        raise BadInput(f"{file} is not the newest {role} metadata there: {chain.name_of(role, after.newest(role))} is", field="file")
    _advise(*picture.changes(before, after))
    if not yes and not typer.confirm(f"Sign {file.name} with {holder.name}?", err=True):
        raise BadInput("nothing was signed", field="key", code="declined")
    signing.add_signature(after, role, holder, passphrase_from(False, passphrase_file))
    chain.write(file, after.newest(role))
    if role == chain.ROOT and not signing.lacking(file.name, after.needs(role)):
        anchor.advance(holder.folder, after.root)
    lacks = signing.lacking_in(file.parent, after)
    answer({"file": str(file), "signed_by": holder.name, **_told(lacks, as_json)}, as_json)
    _next_step(lacks, file.parent, before)


@app.command()
def show(
    place: Annotated[Path, typer.Argument(help="A folder of metadata, or one file in it.", exists=True)],
    current: Annotated[list[Path] | None, typer.Option("--current", help="Folder of the metadata before it.", exists=True)] = None,
    as_json: Json = False,
) -> None:
    """Show who signs what: roles, keys, thresholds, expiries, and the signatures that are there.

    \b
    Example:
      model-tools keys show genesis
    """
    from model_tools.keys import chain, picture

    found = chain.read(*(current or ()), place if place.is_dir() else place.parent)
    typer.echo(msgspec.json.encode(picture.views(found)) if as_json else picture.tree(found, datetime.now(UTC)))


def _finish(draft: "Draft", before: "Chain | None", out: Path, keys: Path, passphrase: Passphrase, as_json: bool) -> None:
    """Sign with the keys that are at hand, write, and say what to do next."""
    from model_tools.keys import anchor, picture, signing
    from model_tools.keys.store import KeyStore

    lacks = signing.sign_draft(draft, before, KeyStore(keys).everything(), passphrase)
    written, after = draft.write(out), draft.after(before)
    if not lacks:
        anchor.advance(keys, after.root)
    changes = picture.changes(before, after)
    answer({"files": [str(path) for path in written], "changes": changes, **_told(lacks, as_json)}, as_json)
    _next_step(lacks, out, before)


def _told(lacks: Sequence, as_json: bool) -> dict[str, object]:
    """People are told by `_next_step`."""
    return {"lacks": lacks} if as_json else {}


def _next_step(lacks: Sequence, out: Path, before: "Chain | None") -> None:
    current = " --current FOLDER" if before else ""
    if not lacks:
        _advise(f"Complete. Next, on the server: fleet-server trust install --home HOME {out}")
    for lack in lacks:
        _advise(
            f"{lack.file} still needs {lack.missing} of: {', '.join(lack.names)}. Take {out} to a holder, who runs "
            f"`model-tools keys sign {out / lack.file} --key NAME.pem{current}`."
        )


def _expiry(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def _advise(*lines: str) -> None:
    for line in lines:
        typer.echo(line, err=True)
