"""The command line: what it prints, its exit codes, and how it speaks to the fleet server."""

import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets

from fleet_contract.bundle import Bundle
from fleet_contract.release import RELEASES, release_of
from model_tools.cli import main
from model_tools.commands import packing
from model_tools.delta.making import apply
from model_tools.sign.releases import sign_releases
from tests.fakes.release_server import error, serve_releases
from tests.fakes.small_bundle import small_bundle
from tests.fakes.tiny_bundle import tiny_bundle

COMMANDS = (
    "build",
    "train",
    "export",
    "quantize",
    "evaluate",
    "compare",
    "explain",
    "pack",
    "delta",
    "sign",
    "publish",
    "inspect",
    "job",
    "import",
    "fits",
    "bench",
    "verify",
    "adopt",
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


@pytest.fixture
def desk(tmp_path):
    """A folder with a bundle, the releases key and its first metadata, and a token."""
    (tmp_path / "tiny.bundle").write_bytes(tiny_bundle())
    (tmp_path / "releases.pem").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    metadata = Metadata(Targets(expires=datetime(2031, 1, 1, tzinfo=UTC)))
    metadata.sign(CryptoSigner(KEY))
    (tmp_path / "releases.json").write_bytes(metadata.to_bytes())
    (tmp_path / "token").write_text("eft_1_secret\n")
    return tmp_path


@pytest.fixture
def server(desk):
    with serve_releases(desk, (desk / "releases.json").read_bytes()) as fake:
        fake.targets = delegating(KEY).to_bytes()
        yield fake


def delegating(*keys: Ed25519PrivateKey, threshold: int = 1) -> Metadata[Targets]:
    """Targets metadata that lets these keys sign releases."""
    public = {signer.public_key.keyid: signer.public_key for signer in map(CryptoSigner, keys)}
    role = DelegatedRole(RELEASES, [*public], threshold, terminating=True, paths=["bundles/*"])
    return Metadata(Targets(expires=datetime(2031, 1, 1, tzinfo=UTC), delegations=Delegations(public, {RELEASES: role})))


def big_bundle(desk, version: str, note: bytes) -> bytes:
    """Incompressible, but for its note like every other."""
    data = small_bundle(version, task="big", model=random.Random(1).randbytes(50_000) + note)
    (desk / f"big-{version}.bundle").write_bytes(data)
    return data


def publishing(desk, server, *more: object, bundle: str = "tiny.bundle") -> list[object]:
    common = ("publish", desk / bundle, "--server", server.url, "--ca", server.ca, "--token-file", desk / "token")
    return [*common, "--key", desk / "releases.pem", *more]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    assert run(command, "--help") == 0
    assert f"model-tools {command} " in capsys.readouterr().out


def test_help_loads_no_training_framework():
    code = (
        "import sys, model_tools.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'sklearn', 'tuf', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


class TestInspect:
    def test_shows_the_card_and_the_digest(self, desk, capsys):
        assert run("inspect", desk / "tiny.bundle") == 0
        out = capsys.readouterr().out
        assert "\n# tiny" in out
        assert Bundle(desk / "tiny.bundle").sha256 in out

    def test_as_json_shows_the_manifest(self, desk, capsys):
        assert run("inspect", desk / "tiny.bundle", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told["sha256"] == Bundle(desk / "tiny.bundle").sha256
        assert told["manifest"]["output"]["classes"] == ["no", "yes"]

    def test_a_flipped_byte_is_bad_input(self, desk, capsys):
        broken = bytearray(tiny_bundle())
        broken[len(broken) // 2] ^= 1
        (desk / "tiny.bundle").write_bytes(broken)
        assert run("inspect", desk / "tiny.bundle", "--json") == 2
        assert json.loads(capsys.readouterr().err)["error"]["code"] == "bad-bundle"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["no-such-command"], id="unknown command"),
        pytest.param(["inspect"], id="missing argument"),
        pytest.param(["inspect", "/nowhere/x.bundle"], id="missing file"),
        pytest.param(["sign", os.devnull, "--releases", os.devnull, "--key", "k", "--out", "/nowhere/deep/x"], id="missing folder"),
        pytest.param(["job", "/nowhere"], id="missing job"),
    ],
)
def test_usage_errors_exit_with_2(arguments, capsys):
    assert run(*arguments) == 2


@pytest.mark.parametrize(("options", "traced"), [pytest.param([], False, id="as usual"), pytest.param(["--debug"], True, id="debug")])
def test_a_mistake_is_one_line_and_shows_where_only_when_asked(options, traced, desk, capsys, monkeypatch):
    monkeypatch.setattr(packing, "summary", lambda _: 1 / 0)
    assert run(*options, "inspect", desk / "tiny.bundle", "--json") == 1
    said = capsys.readouterr().err
    assert json.loads(said.splitlines()[-1])["error"]["code"] == "internal"
    assert ("Traceback" in said) is traced


def test_a_disk_that_does_not_take_the_result_is_one_line(desk, capsys):
    arguments = ("sign", desk / "tiny.bundle", "--releases", desk / "releases.json", "--key", desk / "releases.pem")
    assert run(*arguments, "--out", desk) == 1
    assert capsys.readouterr().err.startswith("error: ")


class TestDelta:
    def test_shows_where_the_bytes_go_and_writes_what_helps(self, desk, capsys):
        first, second = big_bundle(desk, "1", b"old"), big_bundle(desk, "2", b"new")
        assert run("delta", desk / "big-1.bundle", desk / "big-2.bundle", "--out", desk / "x.delta", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["worthwhile"], told["delta_bytes"]) == (True, (desk / "x.delta").stat().st_size)
        assert sum(part["bytes"] for part in told["entries"].values()) == told["bytes"] == len(second)
        assert apply(first, (desk / "x.delta").read_bytes()) == second

    def test_writes_nothing_that_does_not_help(self, desk, capsys):
        assert run("delta", desk / "tiny.bundle", desk / "tiny.bundle", "--out", desk / "x.delta") == 0
        assert "worthwhile: False" in capsys.readouterr().out
        assert not (desk / "x.delta").exists()


class TestSign:
    def test_writes_the_next_metadata(self, desk, capsys):
        arguments = ("sign", desk / "tiny.bundle", "--releases", desk / "releases.json", "--key", desk / "releases.pem")
        assert run(*arguments, "--out", desk / "next.json", "--json") == 0
        signed = Metadata[Targets].from_bytes((desk / "next.json").read_bytes())
        assert [*signed.signed.targets] == ["bundles/tiny-1.bundle"]
        assert json.loads(capsys.readouterr().out)["sha256"] == Bundle(desk / "tiny.bundle").sha256

    def test_lists_the_deltas_that_help_and_writes_them_beside(self, desk, capsys):
        first, second = big_bundle(desk, "1", b"old"), big_bundle(desk, "2", b"new")
        current = sign_releases((desk / "releases.json").read_bytes(), first, CryptoSigner(KEY), datetime(2031, 1, 1, tzinfo=UTC))
        (desk / "releases.json").write_bytes(current)
        options = ("--releases", desk / "releases.json", "--key", desk / "releases.pem", "--out", desk / "next.json", "--json")
        assert run("sign", desk / "big-2.bundle", "--delta-from", desk / "big-1.bundle", *options) == 0
        (file,) = json.loads(capsys.readouterr().out)["deltas"]
        assert apply(first, Path(file).read_bytes()) == second
        targets = Metadata[Targets].from_bytes((desk / "next.json").read_bytes()).signed.targets
        (told,) = release_of(targets["bundles/big-2.bundle"].custom).deltas
        assert (told.base, targets[told.path].length) == (Bundle(first).sha256, Path(file).stat().st_size)

    def test_a_missing_key_is_bad_input_and_writes_nothing(self, desk, capsys):
        arguments = ("sign", desk / "tiny.bundle", "--releases", desk / "releases.json", "--key", desk / "none.pem")
        assert run(*arguments, "--out", desk / "next.json") == 2
        assert "none.pem" in capsys.readouterr().err
        assert not (desk / "next.json").exists()


class TestPublish:
    def test_signs_on_what_the_server_has_and_uploads_both(self, desk, server, capsys):
        assert run(*publishing(desk, server, "--json")) == 0
        assert json.loads(capsys.readouterr().out)["bundle"] == {"sha256": "stored"}
        (_, _, token, _), *_, (method, path, _, body) = server.seen
        assert (method, path, token) == ("POST", "/v1/bundles", "Bearer eft_1_secret")
        assert tiny_bundle() in body
        assert b"bundles/tiny-1.bundle" in body

    @pytest.mark.parametrize(
        ("options", "sent"),
        [
            pytest.param([], 1, id="from what the server has"),
            pytest.param(["--no-delta"], 0, id="not wished"),
            pytest.param(["--delta-from", "big-1.bundle"], 1, id="from a bundle here"),
        ],
    )
    def test_a_delta_goes_with_it_where_it_helps(self, options, sent, desk, server, capsys, monkeypatch):
        monkeypatch.chdir(desk)
        first = big_bundle(desk, "1", b"old")
        server.bundles = [tiny_bundle(), first]
        server.releases = sign_releases(server.releases, first, CryptoSigner(KEY), datetime(2031, 1, 1, tzinfo=UTC))
        second = big_bundle(desk, "2", b"new")
        assert run(*publishing(desk, server, "--json", *options, bundle="big-2.bundle")) == 0
        assert len(json.loads(capsys.readouterr().out)["deltas"]) == sent
        body = server.seen[-1][3]
        assert second in body
        assert (b'name="delta-0"' in body, b"EDLT" in body) == (bool(sent), bool(sent))

    def test_a_bundle_with_another_digest_is_no_base(self, desk, server, capsys):
        first = big_bundle(desk, "1", b"old")
        server.bundles = [first]
        server.releases = sign_releases(server.releases, first, CryptoSigner(KEY), datetime(2031, 1, 1, tzinfo=UTC))
        server.refuse[f"/v1/bundles/{Bundle(first).sha256}/content"] = (200, tiny_bundle())
        big_bundle(desk, "2", b"new")
        assert run(*publishing(desk, server, bundle="big-2.bundle")) == 1
        assert "another bundle" in capsys.readouterr().err

    def test_starts_an_approved_rollout_when_asked(self, desk, server, capsys):
        assert run(*publishing(desk, server, "--rollout")) == 0
        method, path, _, body = server.seen[-1]
        assert (method, path) == ("POST", "/v1/rollouts")
        assert json.loads(body) == {"bundle": Bundle(desk / "tiny.bundle").sha256, "approved": True}

    def test_done_again_sends_no_second_time_and_still_rolls_out(self, desk, server):
        server.releases = sign_releases(server.releases, tiny_bundle(), CryptoSigner(KEY), datetime(2031, 1, 1, tzinfo=UTC))
        assert run(*publishing(desk, server, "--rollout")) == 0
        assert [seen[:2] for seen in server.seen] == [("GET", "/v1/tuf/releases.json"), ("POST", "/v1/rollouts")]

    def test_what_was_signed_elsewhere_is_sent_once_too(self, desk, server, capsys):
        signed = sign_releases(server.releases, tiny_bundle(), CryptoSigner(KEY), datetime(2031, 1, 1, tzinfo=UTC))
        (desk / "next.json").write_bytes(signed)
        arguments = [*publishing(desk, server, "--rollout")[:-3], "--signed", desk / "next.json", "--rollout"]
        assert run(*arguments) == 0
        assert ("POST", "/v1/bundles") in [seen[:2] for seen in server.seen]
        server.seen.clear()
        server.releases = signed
        assert run(*arguments) == 0
        assert [seen[:2] for seen in server.seen] == [("GET", "/v1/tuf/releases.json"), ("POST", "/v1/rollouts")]

    def test_another_bundle_of_a_released_version_is_refused(self, desk, server, capsys):
        other = tiny_bundle(note="other")
        server.releases = sign_releases(server.releases, other, CryptoSigner(KEY), datetime(2031, 1, 1, tzinfo=UTC))
        assert run(*publishing(desk, server, "--json")) == 2
        assert json.loads(capsys.readouterr().err)["error"]["code"] == "already-released"

    def test_takes_the_token_from_the_environment(self, desk, server, monkeypatch):
        monkeypatch.setenv("EDGEFLEET_TOKEN", "eft_2_other")
        arguments = [a for a in publishing(desk, server) if a not in ("--token-file", desk / "token")]
        assert run(*arguments) == 0
        assert server.seen[0][2] == "Bearer eft_2_other"

    @pytest.mark.parametrize(
        ("status", "body", "code"),
        [
            pytest.param(409, error("conflict", "the version is not the next"), "conflict", id="the server's own error"),
            pytest.param(502, b"<html>", "server", id="a proxy's page"),
            pytest.param(500, b'{"error": 3}', "server", id="another JSON"),
        ],
    )
    def test_the_servers_refusal_is_told(self, status, body, code, desk, server, capsys):
        server.refuse["/v1/bundles"] = (status, body)
        assert run(*publishing(desk, server, "--json")) == 1
        told = json.loads(capsys.readouterr().err)["error"]
        assert told["code"] == code
        assert str(status) in told["message"]

    def test_metadata_of_a_server_that_lost_its_mind_is_not_signed(self, desk, server, capsys):
        server.releases = server.releases.replace(b'"version":1', b'"version":8')
        assert run(*publishing(desk, server)) == 2
        assert [seen[0] for seen in server.seen] == ["GET"]

    def test_a_server_of_another_ca_gets_no_token(self, desk, server, tmp_path_factory, capsys):
        with serve_releases(tmp_path_factory.mktemp("other"), b"") as other:
            server.ca = other.ca
            assert run(*publishing(desk, server)) == 1
        assert server.seen == []
        assert "certificate" in capsys.readouterr().err.lower()

    @pytest.mark.parametrize(
        ("option", "value", "field"),
        [
            pytest.param("--server", "http://127.0.0.1:1", "server", id="plain HTTP"),
            pytest.param("--token-file", os.devnull, "token", id="empty token file"),
            pytest.param("--ca", "token", "ca", id="a CA that is no certificate"),
        ],
    )
    def test_bad_options_are_named(self, option, value, field, desk, server, capsys, monkeypatch):
        monkeypatch.chdir(desk)
        assert run(*publishing(desk, server, option, value, "--json")) == 2
        assert json.loads(capsys.readouterr().err)["error"]["field"] == field
        assert "secret" not in capsys.readouterr().err

    def test_a_server_that_is_not_there_is_a_failure_not_bad_input(self, desk, server, capsys):
        assert run(*publishing(desk, server, "--server", "https://127.0.0.1:9")) == 1
        assert "127.0.0.1:9" in capsys.readouterr().err
