"""The key holders' commands, as they are typed: ceremony, rotation, revocation, signatures one after another."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tuf.api.metadata import Metadata

from fleet_contract import limits, online_keys
from fleet_contract.online_keys import OnlineKeys
from model_tools.cli import main
from model_tools.errors import BadInput
from model_tools.keys import anchor, chain, metadata, pkcs8, signing
from model_tools.keys.passphrases import from_file, prompted
from model_tools.keys.store import KeyStore, named
from model_tools.sign.releases import add_signature, load_key, missing_signatures, sign_releases
from tests.fakes.key_holders import public
from tests.fakes.tiny_bundle import tiny_bundle

PASSPHRASE = "correct horse battery"
COMMANDS = ("create", "openssf", "ceremony", "rotate", "revoke", "renew", "sign", "show")


@dataclass(frozen=True)
class Desk:
    """A holder's table: keys, the metadata of now, the next, and the passphrase's file."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def run(self, command: str, *arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["keys", command, *map(str, arguments)])
        return ended.value.code

    def online(self, *, timestamp: int = 2) -> Path:
        keys = OnlineKeys(fleet="demo", snapshot=public(1), timestamp=public(timestamp), orders=public(3))
        (self / "online.json").write_bytes(online_keys.encode(keys))
        return self / "online.json"

    def ceremony(self, *more: object) -> int:
        return self.run("ceremony", "--online", self.online(), "--keys", self / "keys", "--out", self / "now", *more)

    def change(self, command: str, *arguments: object) -> int:
        places = ("--current", self / "now", "--keys", self / "keys", "--out", self / "next")
        plain = ("--plain",) if command == "rotate" else ()
        return self.run(command, *arguments, *places, *plain)

    def chain(self) -> chain.Chain:
        return chain.read(self / "now", self / "next")

    def lacks(self, capsys) -> list[dict]:
        """What the last --json answer says is still to be signed."""
        return json.loads(capsys.readouterr().out.splitlines()[-1])["lacks"]

    def without(self, *names: str) -> None:
        """The private halves are somewhere else."""
        for name in names:
            (self / "keys" / f"{name}.pem").rename(self / f"{name}.pem")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def begun(desk: Desk) -> Desk:
    assert desk.ceremony("--plain") == 0
    return desk


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(desk: Desk, command: str, capsys) -> None:
    assert desk.run(command, "--help") == 0
    assert f"model-tools keys {command} " in capsys.readouterr().out


def test_the_keys_need_no_training_framework() -> None:
    code = "import sys, model_tools.keys.cli, model_tools.keys.changing; print([m for m in ('torch', 'onnx') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


class TestKeyFiles:
    def test_a_key_is_encrypted_and_its_owners_alone(self, desk: Desk) -> None:
        (desk / "pass").write_text(PASSPHRASE + "\n")
        assert desk.run("create", "root-1", "--keys", desk / "keys", "--passphrase-file", desk / "pass") == 0
        file = desk / "keys" / "root-1.pem"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with pytest.raises(TypeError):
            load_pem_private_key(file.read_bytes(), None)
        assert isinstance(load_pem_private_key(file.read_bytes(), PASSPHRASE.encode()), Ed25519PrivateKey)

    def test_the_passphrase_goes_through_scrypt(self) -> None:
        key = Ed25519PrivateKey.generate()
        first, second = (pkcs8.encrypted(key, PASSPHRASE, os.urandom) for _ in range(2))
        assert first != second
        assert pkcs8.load(first, PASSPHRASE, "k").public_key() == key.public_key()

    @pytest.mark.parametrize(
        ("passphrase", "field"), [pytest.param("another passphrase", "passphrase", id="wrong"), pytest.param(None, "key", id="none")]
    )
    def test_a_wrong_passphrase_is_not_repeated(self, passphrase: str | None, field: str) -> None:
        pem = pkcs8.encrypted(Ed25519PrivateKey.generate(), PASSPHRASE, os.urandom)
        with pytest.raises(BadInput) as refused:
            pkcs8.load(pem, passphrase, "root-1.pem")
        assert refused.value.field == field
        assert "another" not in str(refused.value)

    def test_no_key_is_overwritten(self, desk: Desk) -> None:
        assert desk.run("create", "root-1", "--plain", "--keys", desk / "keys") == 0
        assert desk.run("create", "root-1", "--plain", "--keys", desk / "keys") == 2

    @pytest.mark.parametrize("name", ["../root", "Root", "", "a" * 65])
    def test_a_name_is_a_name(self, desk: Desk, name: str) -> None:
        assert desk.run("create", name, "--plain", "--keys", desk / "keys") == 2

    @pytest.mark.parametrize(
        ("text", "fits"),
        [
            pytest.param("x" * (limits.MIN_PASSPHRASE_CHARS - 1), False, id="short"),
            pytest.param("x" * limits.MIN_PASSPHRASE_CHARS, True, id="just long enough"),
            pytest.param("x" * (limits.MAX_PASSPHRASE_CHARS + 1), False, id="long"),
        ],
    )
    def test_a_new_passphrase_has_a_length(self, tmp_path: Path, text: str, fits: bool) -> None:
        (tmp_path / "pass").write_text(text)
        for source in (from_file(tmp_path / "pass"), prompted(lambda *_: text)):
            if fits:
                assert source("root-1", True) == text
            else:
                with pytest.raises(BadInput):
                    source("root-1", True)

    def test_a_folder_has_a_passphrase_for_each_key(self, tmp_path: Path) -> None:
        (tmp_path / "root-1").write_text("one long passphrase\n")
        assert from_file(tmp_path)("root-1", False) == "one long passphrase"
        with pytest.raises(BadInput, match="root-2: No such file"):
            from_file(tmp_path)("root-2", False)

    def test_without_a_terminal_nothing_is_asked(self, desk: Desk) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "model_tools", "keys", "create", "root-1", "--keys", desk / "keys"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert (done.returncode, "--passphrase-file" in done.stderr) == (2, True)


class TestCeremony:
    def test_its_metadata_is_complete_and_two_root_keys_signed_it(self, begun: Desk) -> None:
        found = begun.chain()
        found.check()
        root = found.root.signed.roles["root"]
        assert (len(root.keyids), root.threshold, len(found.root.signatures)) == (3, 2, 2)
        assert [len(found.newest(role).signed.targets) for role in ("targets", "releases")] == [0, 0]

    def test_its_size_is_chosen(self, desk: Desk) -> None:
        more = ("--root-keys", 5, "--root-threshold", 3, "--releases", 3, "--releases-threshold", 2)
        assert desk.ceremony("--plain", *more) == 0
        releases = desk.chain().targets.signed.delegations.roles["releases"]
        assert (len(releases.keyids), releases.threshold) == (3, 2)
        assert {f"releases-{number}.pem" for number in (1, 2, 3)} <= {path.name for path in (desk / "keys").iterdir()}

    @pytest.mark.parametrize(
        "more",
        [
            pytest.param(("--root-threshold", 4), id="more signatures than root keys"),
            pytest.param(("--releases-threshold", 2), id="more signatures than releases keys"),
        ],
    )
    def test_a_threshold_that_cannot_be_met_makes_no_key(self, desk: Desk, more: tuple) -> None:
        assert desk.ceremony("--plain", *more) == 2
        assert not (desk / "keys").exists()

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("{", id="not json"),
            pytest.param('{"fleet":"demo"}', id="keys missing"),
            pytest.param(
                json.dumps({"fleet": "demo", "snapshot": public(1), "timestamp": public(1), "orders": public(2)}), id="one key twice"
            ),
        ],
    )
    def test_a_bad_online_json_is_refused(self, desk: Desk, text: str) -> None:
        (desk / "bad.json").write_text(text)
        assert desk.run("ceremony", "--online", desk / "bad.json", "--keys", desk / "keys", "--out", desk / "now", "--plain") == 2

    def test_nothing_is_overwritten(self, begun: Desk) -> None:
        assert begun.ceremony("--plain") == 2

    def test_holders_bring_their_public_halves_and_sign_where_they_are(self, desk: Desk, capsys) -> None:
        (desk / "keys").mkdir()
        for number in (1, 2, 3):
            assert desk.run("create", f"root-{number}", "--plain", "--keys", desk / f"holder-{number}") == 0
            shutil.copy(desk / f"holder-{number}" / f"root-{number}.pub", desk / "keys")
        assert desk.ceremony("--plain", "--json") == 0
        assert desk.lacks(capsys) == [{"file": "1.root.json", "missing": 2, "names": ["root-1", "root-2", "root-3"]}]
        root = desk / "now" / "1.root.json"
        assert desk.run("sign", root, "--key", desk / "holder-3" / "root-3.pem", "--yes", "--json") == 0
        assert [lack["missing"] for lack in desk.lacks(capsys)] == [1]
        assert desk.run("sign", root, "--key", desk / "holder-1" / "root-1.pem", "--yes", "--json") == 0
        assert desk.lacks(capsys) == []
        desk.chain().check()

    def test_it_is_complete_when_every_file_is_and_the_answer_says_what_to_do_until_then(self, desk: Desk, capsys) -> None:
        for name in ("root-1", "root-2", "releases"):
            assert desk.run("create", name, "--plain", "--keys", desk / name) == 0
            (desk / "keys").mkdir(exist_ok=True)
            shutil.copy(desk / name / f"{name}.pub", desk / "keys")
        assert desk.ceremony("--plain", "--root-keys", 2) == 0
        root, releases = desk / "now" / "1.root.json", desk / "now" / "1.releases.json"
        assert f"`model-tools keys sign {releases} --key NAME.pem`" in capsys.readouterr().err
        for name in ("root-1", "root-2"):
            assert desk.run("sign", root, "--key", desk / name / f"{name}.pem", "--yes") == 0
            told = capsys.readouterr().err
            assert "1.releases.json still needs 1 of: releases" in told
            assert "Complete" not in told
        assert desk.run("sign", releases, "--key", desk / "releases" / "releases.pem", "--yes") == 0
        assert "Complete" in capsys.readouterr().err

    def test_with_passphrases_as_a_program(self, desk: Desk) -> None:
        (desk / "pass").mkdir()
        for name in ("root-1", "root-2", "root-3", "targets", "releases"):
            (desk / "pass" / name).write_text(f"{PASSPHRASE} {name}\n")
        command = [sys.executable, "-m", "model_tools", "keys", "ceremony", "--online", desk.online(), "--keys", desk / "keys"]
        command += ["--out", desk / "now", "--passphrase-file", desk / "pass"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        desk.chain().check()
        assert all(b"ENCRYPTED" in path.read_bytes() for path in (desk / "keys").glob("*.pem"))
        assert PASSPHRASE not in done.stdout + done.stderr


class TestRotation:
    @pytest.mark.parametrize(
        ("role", "more", "changed"),
        [
            pytest.param("root", ("--key", "root-2"), {"2.root.json"}, id="root"),
            pytest.param("targets", (), {"2.root.json", "2.targets.json"}, id="targets"),
            pytest.param("releases", (), {"2.targets.json", "2.releases.json"}, id="releases"),
        ],
    )
    def test_an_offline_key_gives_way_to_a_new_one(self, begun: Desk, role: str, more: tuple, changed: set[str]) -> None:
        before = metadata.holders_of(begun.chain(), role)
        assert begun.change("rotate", role, *more) == 0
        after = begun.chain()
        after.check()
        gone = {key.keyid for key in before.keys} - {key.keyid for key in metadata.holders_of(after, role).keys}
        assert len(gone) == 1
        assert {path.name for path in (begun / "next").iterdir()} == changed

    @pytest.mark.parametrize(
        ("role", "changed"),
        [pytest.param("timestamp", "2.root.json", id="timestamp"), pytest.param("orders", "2.targets.json", id="orders")],
    )
    def test_an_online_key_comes_from_the_server(self, begun: Desk, role: str, changed: str) -> None:
        new = OnlineKeys(fleet="demo", snapshot=public(1), **{"timestamp": public(2), "orders": public(3), role: public(9)})
        (begun / "online.json").write_bytes(online_keys.encode(new))
        assert begun.change("rotate", role, "--online", begun / "online.json") == 0
        assert [path.name for path in (begun / "next").iterdir()] == [changed]
        (key,) = metadata.holders_of(begun.chain(), role).keys
        assert key.keyval["public"] == public(9)

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param(("root",), id="which of three root keys"),
            pytest.param(("root", "--key", "targets"), id="a key of another role"),
            pytest.param(("king",), id="no such role"),
            pytest.param(("orders",), id="an online role without online.json"),
            pytest.param(("releases", "--drop", "bundles/none.bundle"), id="no such target"),
            pytest.param(("releases", "--threshold", "2"), id="more signatures than keys"),
            pytest.param(("targets", "--new", "root-1"), id="one key for two roles"),
        ],
    )
    def test_what_cannot_be_is_refused_and_writes_nothing(self, begun: Desk, arguments: tuple) -> None:
        assert begun.change("rotate", *arguments) == 2
        assert not (begun / "next").exists()

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param(("root",), id="which of three root keys"),
            pytest.param(("root", "--key", "root-9"), id="a key that there is not"),
            pytest.param(("releases", "--threshold", "2"), id="more signatures than keys"),
        ],
    )
    def test_no_key_is_made_for_what_cannot_be(self, begun: Desk, arguments: tuple) -> None:
        before = sorted((begun / "keys").iterdir())
        assert begun.change("rotate", *arguments) == 2
        assert sorted((begun / "keys").iterdir()) == before

    @pytest.mark.parametrize("command", [("rotate", "targets"), ("revoke", "root-1"), ("renew", "root")], ids=lambda command: command[0])
    def test_a_mistyped_folder_of_keys_is_not_begun(self, begun: Desk, command: tuple) -> None:
        assert begun.run(*command, "--current", begun / "now", "--keys", begun / "kyes", "--out", begun / "next") == 2
        assert not (begun / "kyes").exists()

    def test_what_the_server_signs_is_not_renewed_here(self, begun: Desk, capsys) -> None:
        assert begun.change("renew", "snapshot") == 2
        assert "the server renews what it signs by itself" in capsys.readouterr().err

    def test_the_key_in_use_is_no_successor(self, begun: Desk) -> None:
        assert begun.change("rotate", "timestamp", "--online", begun / "online.json") == 2

    def test_revoking_leaves_the_rest(self, begun: Desk) -> None:
        assert begun.change("revoke", "root-3") == 0
        begun.chain().check()
        assert [named(key) for key in metadata.holders_of(begun.chain(), "root").keys] == ["root-1", "root-2"]

    @pytest.mark.parametrize("name", ["targets", "timestamp", "nobody", "ro"])
    def test_a_role_is_never_left_without_enough_keys(self, begun: Desk, name: str) -> None:
        assert begun.change("revoke", name) == 2

    def test_renewing_changes_the_expiry_alone(self, begun: Desk, capsys) -> None:
        assert begun.change("renew", "root", "targets", "--days", 3000, "--json") == 0
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert [line.split(":")[0] for line in told["changes"]] == ["root 2", "targets 2"]
        begun.chain().check()

    def test_a_root_rotated_without_the_stolen_key_needs_the_two_others(self, begun: Desk, capsys) -> None:
        begun.without("root-1", "root-2")
        assert begun.change("rotate", "root", "--key", "root-2", "--json") == 0
        assert [lack["missing"] for lack in begun.lacks(capsys)] == [1]


class TestSigning:
    @pytest.fixture
    def half(self, begun: Desk) -> Desk:
        """A second root that one of two has signed."""
        begun.without("root-1", "root-2")
        assert begun.change("renew", "root") == 0
        shutil.move(begun / "root-1.pem", begun / "keys" / "root-1.pem")
        return begun

    def sign(self, desk: Desk, key: str, *more: object) -> int:
        return desk.run("sign", desk / "next" / "2.root.json", "--key", desk / "keys" / f"{key}.pem", "--current", desk / "now", *more)

    def test_one_more_signature_completes_it(self, half: Desk) -> None:
        assert self.sign(half, "root-1", "--yes") == 0
        half.chain().check()

    @pytest.mark.parametrize("key", [pytest.param("root-3", id="signed already"), pytest.param("targets", id="has no say")])
    def test_a_signature_that_nobody_needs_is_refused(self, half: Desk, key: str) -> None:
        assert self.sign(half, key, "--yes") == 2

    def test_nothing_is_signed_unseen(self, half: Desk, monkeypatch, capsys) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
        assert self.sign(half, "root-1") == 2
        assert "root 2: expires" in capsys.readouterr().err

    def test_a_holder_who_has_seen_a_root_is_not_shown_another_as_the_first(self, begun: Desk, tmp_path_factory, capsys) -> None:
        """Whoever carries the files leaves out what came before."""
        other = Desk(tmp_path_factory.mktemp("other"))
        assert other.ceremony("--plain") == 0
        forged, key = other / "now" / "1.root.json", begun / "keys" / "root-1.pem"
        capsys.readouterr()
        assert begun.run("sign", forged, "--key", key, "--yes", "--json") == 2
        assert json.loads(capsys.readouterr().err.splitlines()[-1])["error"]["code"] == "foreign-root"

    @pytest.mark.parametrize("version", [2, 3], ids=["misnamed", "newer"])
    def test_another_file_than_the_one_named_is_not_signed(self, half: Desk, version: int) -> None:
        asked = half / "next" / "2.root.json"
        metadata, before = Metadata.from_bytes(asked.read_bytes()), asked.read_bytes()
        metadata.signed.version = version
        metadata.to_file(str(half / "next" / "3.root.json"))
        assert self.sign(half, "root-1", "--yes") == 2
        assert asked.read_bytes() == before

    def test_a_root_that_does_not_follow_from_the_one_seen_is_not_built_on(self, begun: Desk, tmp_path_factory, capsys) -> None:
        """Whoever carries the current metadata puts in a fleet of his own."""
        other = Desk(tmp_path_factory.mktemp("other"))
        assert other.ceremony("--plain") == 0
        shutil.copy(begun / "keys" / anchor.FILE, other / "keys" / anchor.FILE)
        capsys.readouterr()
        assert other.change("renew", "root", "--json") == 2
        assert json.loads(capsys.readouterr().err)["error"]["code"] == "foreign-root"

    def test_an_older_root_than_the_one_seen_is_not_built_on(self, begun: Desk, capsys) -> None:
        assert begun.change("renew", "root") == 0
        assert begun.run("renew", "root", "--current", begun / "now", "--keys", begun / "keys", "--out", begun / "third", "--json") == 2
        assert json.loads(capsys.readouterr().err.splitlines()[-1])["error"]["code"] == "rollback"

    def test_metadata_changed_on_the_way_is_not_built_on(self, begun: Desk) -> None:
        path = begun / "now" / "1.targets.json"
        targets = Metadata.from_bytes(path.read_bytes())
        targets.signed.expires = datetime(2099, 1, 1, tzinfo=UTC)
        path.write_bytes(targets.to_bytes())
        assert begun.change("renew", "root") == 2

    def test_show_draws_who_signs_what(self, begun: Desk, capsys) -> None:
        assert begun.run("show", begun / "now") == 0
        drawn = capsys.readouterr().out
        assert "root 1: expires" in drawn.splitlines()[0]
        assert "2 of 3" in drawn
        assert begun.run("show", begun / "now", "--json") == 0
        views = {view["role"]: view for view in json.loads(capsys.readouterr().out)}
        assert sorted(views["root"]["keys"].values()) == ["root-1", "root-2", "root-3"]
        assert views["releases"]["signed"] == ["1 of 1 by targets 1"]


class TestReleasesOfSeveral:
    """Two of three releases keys."""

    EXPIRES = datetime(2031, 1, 1, tzinfo=UTC)

    @pytest.fixture
    def shared(self, desk: Desk) -> Desk:
        assert desk.ceremony("--plain", "--releases", 3, "--releases-threshold", 2) == 0
        (desk / "tiny.bundle").write_bytes(tiny_bundle())
        return desk

    def sign(self, desk: Desk, key: str, *more: object) -> int:
        current = ("--releases", desk / "now" / "1.releases.json", "--current", desk / "now")
        with pytest.raises(SystemExit) as ended:
            arguments = ("sign", desk / "tiny.bundle", *current, "--key", desk / "keys" / f"{key}.pem", "--out", desk / "out.json", *more)
            main([str(argument) for argument in arguments])
        return ended.value.code

    def test_one_holder_after_the_other_signs(self, shared: Desk, capsys) -> None:
        targets = (shared / "now" / "1.targets.json").read_bytes()
        assert self.sign(shared, "releases-3") == 0
        assert missing_signatures((shared / "out.json").read_bytes(), targets) == 1
        assert "missing_signatures: 1" in capsys.readouterr().out
        assert self.sign(shared, "releases-1", "--draft", shared / "out.json") == 0
        assert missing_signatures((shared / "out.json").read_bytes(), targets) == 0

    def test_a_key_of_another_role_does_not_sign_releases(self, shared: Desk) -> None:
        assert self.sign(shared, "targets") == 2

    @pytest.mark.parametrize("extra", [pytest.param("1.1", id="releases another bundle, too"), pytest.param(None, id="not this bundle")])
    def test_a_draft_that_does_anything_else_is_not_signed(self, shared: Desk, extra: str | None) -> None:
        key, found = load_key(shared / "keys" / "releases-1.pem"), shared.chain()
        current, data = found.releases.to_bytes(), tiny_bundle()
        draft = sign_releases(current, tiny_bundle(note="other") if extra is None else data, key, self.EXPIRES, trusted=found)
        if extra:
            changed = Metadata.from_bytes(sign_releases(draft, tiny_bundle(version=extra), key, self.EXPIRES))
            changed.signed.version -= 1
            draft = changed.to_bytes()
        with pytest.raises(BadInput) as refused:
            add_signature(current, draft, data, load_key(shared / "keys" / "releases-2.pem"), found)
        assert refused.value.field == "draft"


def test_as_few_keys_as_needed_are_opened(begun: Desk) -> None:
    """Every key costs its holder a passphrase."""
    opened: list[str] = []
    before = begun.chain()
    draft = metadata.renew(before, ["root", "targets"], datetime(2031, 1, 1, tzinfo=UTC))
    stored = KeyStore(begun / "keys").everything()
    assert signing.sign_draft(draft, before, stored, lambda name, _: opened.append(name)) == []
    assert [len(one.signatures) for _, one in draft.items()] == [2, 1]
