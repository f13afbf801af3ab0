"""Root and targets keys in a PKCS#11 token: Debian's SoftHSM2, with a token folder of the test's own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from fleet_contract import online_keys
from fleet_contract.online_keys import OnlineKeys
from model_tools.keys import chain, metadata
from tests.fakes.key_holders import public

pkcs11 = pytest.importorskip("pkcs11", reason="needs the extra hsm")
LIBRARY = next((path for path in map(Path, ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")) if path.exists()), None)
pytestmark = pytest.mark.skipif(LIBRARY is None or shutil.which("softhsm2-util") is None, reason="SoftHSM2 is not installed")
PIN, LABEL = "0001password", "fleet-root"


class Token:
    """Programs run with the token's environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(
            f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.environment = {**os.environ, "SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "PYKCS11LIB": str(LIBRARY)}
        (folder / "pin").write_text(PIN + "\n")
        (folder / "wrong").write_text("9999wrong\n")
        self.run("softhsm2-util", "--init-token", "--free", "--label", LABEL, "--so-pin", "0000admin", "--pin", PIN)

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*map(str, command)], env=self.environment, capture_output=True, text=True, check=True)

    def keys(self, *arguments: object, pin: str = "pin") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "model_tools", "keys", *map(str, arguments), "--passphrase-file", str(self.folder / pin)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    found = Token(tmp_path_factory.mktemp("token"))
    for number, name in ((1, "root-1"), (2, "targets")):
        made = found.keys("create", name, "--keys", found.folder / "keys", "--hsm", f"hsm:{number}?label={LABEL}")
        assert made.returncode == 0, made.stderr
    online = OnlineKeys(fleet="demo", snapshot=public(1), timestamp=public(2), orders=public(3))
    (found.folder / "online.json").write_bytes(online_keys.encode(online))
    return found


def test_the_token_keeps_the_key_and_tells_the_public_half(token: Token) -> None:
    assert {path.name for path in (token.folder / "keys").iterdir()} == {"root-1.pub", "targets.pub"}
    assert all(b"PRIVATE" not in path.read_bytes() for path in (token.folder / "keys").iterdir())


def test_root_and_targets_are_signed_inside_the_token(token: Token) -> None:
    more = ("--root-keys", 2, "--root-threshold", 2, "--out", token.folder / "now")
    done = token.keys("ceremony", "--online", token.folder / "online.json", "--keys", token.folder / "keys", *more)
    assert done.returncode == 0, done.stderr
    found = chain.read(token.folder / "now")
    found.check()
    (targets,) = metadata.holders_of(found, "targets").keys
    assert (targets.keytype, targets.scheme) == ("ecdsa", "ecdsa-sha2-nistp256")
    assert targets.keyid in Metadata.from_bytes((token.folder / "now" / "1.targets.json").read_bytes()).signatures
    assert PIN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("uri", "pin", "code"),
    [
        pytest.param(f"hsm:7?label={LABEL}", "wrong", 1, id="a wrong PIN"),
        pytest.param("hsm:7?label=nothing", "pin", 2, id="no such token"),
        pytest.param("file:7", "pin", 2, id="no token's URI"),
    ],
)
def test_what_a_token_refuses_is_told(token: Token, uri: str, pin: str, code: int) -> None:
    done = token.keys("create", "other", "--keys", token.folder / "others", "--hsm", uri, pin=pin)
    assert (done.returncode, "Traceback" in done.stderr, "mistake" in done.stderr) == (code, False, False), done.stderr
    assert not (token.folder / "others" / "other.pub").exists()
