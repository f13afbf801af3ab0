"""Where a broker of ours listens, and with which identity."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Listener:
    """`address` is the IP address to bind. Paths are absolute: the CA that clients must be certified by, the broker's certificate and its key,
    and the folder for the broker's own files. `excluded` are devices that are denied every topic; `crl` is a file of revoked certificates (PEM)."""

    address: str
    port: int
    ca: str
    certificate: str
    key: str
    folder: str
    excluded: tuple[str, ...] = ()
    crl: str | None = None
