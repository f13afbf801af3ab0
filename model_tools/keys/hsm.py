"""EC P-256 keys in PKCS#11 tokens, through securesystemslib's HSMSigner: `hsm:ID[?label=TOKEN]`. The variable PYKCS11LIB names the token's library."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlsplit

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import HSMSigner, Key, Signature, Signer, SSlibKey

from model_tools.errors import BadInput, Failed

Pin = Callable[[], str]
_LABEL = "edgefleet"


def signer(uri: str, key: Key, pin: Pin) -> Signer:
    """Asks for the PIN when it signs. Raises BadInput."""
    with _speaking(uri):
        return _Token(HSMSigner.from_priv_key_uri(uri, key, lambda _: pin()), uri)


def take(uri: str, pin: Pin) -> tuple[str, SSlibKey]:
    """The full URI and the public key of `uri`; the key pair is made inside the token, never to leave it, if the token has none of this id.
    Raises BadInput (no such token, another kind of key) or Failed (the token refuses)."""
    number, label = _parsed(uri)
    with _speaking(uri):
        token = HSMSigner._find_token(label)
        _make_unless_there(token, number, pin())
        return HSMSigner.import_(number, label, lambda _: pin())


def _make_unless_there(token, number: int, pin: str) -> None:
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    identity = pkcs11.util.biginteger(number)
    with token.open(rw=True, user_pin=pin) as session:
        if any(True for _ in session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.Attribute.ID: identity})):
            return
        curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
        parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
        parameters.generate_keypair(store=True, id=identity, label=_LABEL)


def _parsed(uri: str) -> tuple[int, str | None]:
    parts = urlsplit(uri)
    if parts.scheme != HSMSigner.SCHEME or not (parts.path or "2").isdecimal():
        raise BadInput(f"{uri!r} is no hsm:ID[?label=TOKEN]", field="hsm")
    return int(parts.path or HSMSigner.SCHEME_KEYID), dict(parse_qsl(parts.query)).get("label")


class _Token(Signer):
    """Turns what the library raises while it signs into this program's errors."""

    def __init__(self, wrapped: HSMSigner, uri: str) -> None:
        self._wrapped, self._uri = wrapped, uri

    @property
    def public_key(self) -> Key:
        return self._wrapped.public_key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Callable[[str], str] | None = None) -> Signer:
        return HSMSigner.from_priv_key_uri(priv_key_uri, public_key, secrets_handler)

    def sign(self, payload: bytes) -> Signature:
        with _speaking(self._uri):
            return self._wrapped.sign(payload)


@contextmanager
def _speaking(uri: str) -> Iterator[None]:
    try:
        from pkcs11.exceptions import PKCS11Error
    except ImportError as error:
        raise BadInput("keys in a PKCS#11 token need the extra: pip install 'edgefleet[hsm]'", field="hsm") from error
    try:
        yield
    except (ValueError, UnsupportedLibraryError) as error:
        raise BadInput(f"{uri}: {error}", field="hsm") from error
    except (PKCS11Error, RuntimeError, OSError) as error:
        raise Failed(f"{uri}: the token refuses: {type(error).__name__} {error}".rstrip(), field="hsm", code="hsm") from error
