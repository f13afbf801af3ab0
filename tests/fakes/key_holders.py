"""Public keys as a server's online.json has them."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def public(seed: int) -> str:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32).public_key().public_bytes_raw().hex()
