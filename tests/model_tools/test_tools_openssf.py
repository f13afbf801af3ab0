"""OpenSSF Model Signing bundles, as the stock tool reads them; and what `verify` holds a bundle to."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet_contract import online_keys
from fleet_contract.bundle import Bundle, pack
from fleet_contract.online_keys import OnlineKeys
from model_tools.cli import main
from model_tools.errors import BadInput
from model_tools.keys import passphrases
from model_tools.sign.checking import check_release
from tests.fakes.key_holders import public
from tests.fakes.tiny_bundle import tiny_bundle

openssf = pytest.importorskip("model_tools.sign.openssf")
pytest.importorskip("model_signing", reason="the extra `openssf` is not installed")
PASSPHRASE = "five words that nobody guesses"


@pytest.fixture
def bundle(tmp_path) -> Path:
    path = tmp_path / "tiny.bundle"
    path.write_bytes(tiny_bundle())
    return path


@pytest.fixture
def keys(tmp_path) -> tuple[Path, Path]:
    return openssf.create_key(tmp_path / "keys", "signing", passphrases.unencrypted)


def answered(capfd, *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    told = capfd.readouterr()
    return ended.value.code or 0, told.out + told.err


def stock(bundle: Path, signature: Path, public: Path) -> int:
    """The exit code of the tool that others use."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", bundle, "--signature", signature, "--public_key", public]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


class TestSigning:
    def test_the_stock_tool_verifies_and_sees_a_changed_bundle(self, bundle, keys, tmp_path):
        signature = tmp_path / "tiny.bundle.sig"
        signature.write_bytes(openssf.sign_file(bundle, keys[0]))
        assert stock(bundle, signature, keys[1]) == 0
        bundle.write_bytes(tiny_bundle(note="another"))
        assert stock(bundle, signature, keys[1]) != 0

    def test_an_encrypted_key_asks_for_its_passphrase(self, bundle, tmp_path):
        private, public = openssf.create_key(tmp_path, "locked", lambda name, new: PASSPHRASE)
        signature = tmp_path / "s"
        signature.write_bytes(openssf.sign_file(bundle, private, lambda name, new: PASSPHRASE))
        openssf.verify_file(bundle, signature, public)
        assert private.stat().st_mode & 0o777 == 0o600
        with pytest.raises(BadInput) as refused:
            openssf.sign_file(bundle, private, lambda name, new: "another passphrase")
        assert refused.value.field == "passphrase"

    def test_no_key_is_overwritten(self, keys):
        with pytest.raises(BadInput) as refused:
            openssf.create_key(keys[0].parent, "signing", passphrases.unencrypted)
        assert refused.value.code == "key-exists"

    def test_another_curve_is_refused(self, bundle, tmp_path):
        other = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / "other.pem").write_bytes(other)
        with pytest.raises(BadInput) as refused:
            openssf.sign_file(bundle, tmp_path / "other.pem")
        assert (refused.value.field, refused.value.limit) == ("key", "secp256r1")

    @pytest.mark.parametrize(
        "torn", [pytest.param(b"{}", id="empty"), pytest.param(b'{"mediaType": "', id="torn"), pytest.param(b"\xff", id="binary")]
    )
    def test_what_is_no_signature_is_refused(self, bundle, keys, tmp_path, torn):
        (tmp_path / "s").write_bytes(torn)
        with pytest.raises(BadInput) as refused:
            openssf.verify_file(bundle, tmp_path / "s", keys[1])
        assert refused.value.field == "signature"


class TestVerify:
    def test_by_command_from_the_key_to_the_proof(self, bundle, tmp_path, capfd):
        assert answered(capfd, "keys", "openssf", "signing", "--keys", tmp_path / "k", "--plain")[0] == 0
        signature = tmp_path / "tiny.bundle.sig"
        assert answered(capfd, "sign", bundle, "--openssf", tmp_path / "k/signing.pem", "--out", signature)[0] == 0
        given = ("--signature", signature, "--public-key", tmp_path / "k/signing.public.pem")
        code, told = answered(capfd, "verify", bundle, *given, "--json")
        assert (code, json.loads(told)["signature"]) == (0, "right")

    def test_digests_alone(self, bundle, capfd):
        code, told = answered(capfd, "verify", bundle, "--json")
        assert (code, json.loads(told)["sha256"]) == (0, Bundle(bundle).sha256)

    def test_a_flipped_byte_ends_with_2(self, bundle, capfd):
        data = bytearray(bundle.read_bytes())
        data[-100] ^= 1
        bundle.write_bytes(data)
        assert answered(capfd, "verify", bundle)[0] == 2

    def test_a_bill_of_materials_that_breaks_its_schema_is_named(self, bundle, capfd):
        pytest.importorskip("jsonschema", reason="cyclonedx-python-lib[json-validation] is not installed")
        opened = Bundle(bundle)
        files = {name: opened.read(name) for name in opened.manifest.entries}
        bundle.write_bytes(pack(msgspec.structs.replace(opened.manifest, entries={}), files | {"bom.cdx.json": b'{"bomFormat": 1}'}))
        code, told = answered(capfd, "verify", bundle)
        assert code == 2
        assert "bom.cdx.json" in told

    @pytest.mark.parametrize("lonely", [pytest.param("--releases", id="releases"), pytest.param("--signature", id="signature")])
    def test_half_of_a_pair_is_refused(self, bundle, capfd, lonely):
        assert answered(capfd, "verify", bundle, lonely, bundle)[0] == 2


class TestInspect:
    def test_shows_every_entry_with_its_digest_and_whether_there_is_a_signature(self, bundle, capfd):
        _, told = answered(capfd, "inspect", bundle)
        for name, entry in Bundle(bundle).manifest.entries.items():
            assert any(name in line and entry.sha256 in line for line in told.splitlines())
        assert "no signature beside it" in told
        Path(f"{bundle}.sig").write_bytes(b"{}")
        assert "tiny.bundle.sig" in answered(capfd, "inspect", bundle)[1]

    def test_prints_one_entry(self, bundle, capfd):
        opened = Bundle(bundle)
        _, told = answered(capfd, "inspect", bundle, "--entry", opened.manifest.card)
        assert told.encode() == opened.read(opened.manifest.card)


class TestReleases:
    """A ceremony, a release, and what becomes of its check."""

    @pytest.fixture
    def now(self, tmp_path, capfd) -> Path:
        online = OnlineKeys(fleet="demo", snapshot=public(1), timestamp=public(2), orders=public(3))
        (tmp_path / "online.json").write_bytes(online_keys.encode(online))
        places = ("--keys", tmp_path / "keys", "--out", tmp_path / "now", "--plain")
        assert answered(capfd, "keys", "ceremony", "--online", tmp_path / "online.json", *places)[0] == 0
        return tmp_path / "now"

    @pytest.fixture
    def releases(self, now, bundle, tmp_path, capfd) -> Path:
        (current,) = now.glob("*releases.json")
        out = tmp_path / "next-releases.json"
        signed = answered(capfd, "sign", bundle, "--releases", current, "--key", tmp_path / "keys/releases.pem", "--out", out)
        assert signed[0] == 0, signed[1]
        return out

    def test_a_released_bundle_is_right(self, bundle, releases, now, capfd):
        code, told = answered(capfd, "verify", bundle, "--releases", releases, "--current", now, "--json")
        assert (code, json.loads(told)["releases"]) == (0, 2)

    def test_what_is_wrong_is_named(self, bundle, releases, now, tmp_path):
        opened, signed = Bundle(bundle), releases.read_bytes()
        forged = json.loads(signed) | {"signatures": []}
        cases = {
            "not-released": (Bundle(tiny_bundle(note="another")), signed, datetime.now(UTC)),
            "unsigned": (opened, json.dumps(forged).encode(), datetime.now(UTC)),
            "expired": (opened, signed, datetime(2100, 1, 1, tzinfo=UTC)),
        }
        for wanted, (given, metadata, at) in cases.items():
            with pytest.raises(BadInput) as refused:
                check_release(given, metadata, [now], at)
            assert refused.value.code == wanted
