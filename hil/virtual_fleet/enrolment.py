"""Enrols a virtual fleet over HTTPS, several devices at a time: a one-time token each, redeemed for a certificate."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_contract import enrolment
from hil.client import Client
from hil.errors import RigError
from hil.virtual_fleet.identities import Belonging, Identities, new_key
from hil.virtual_fleet.trust import orders_keys

_AT_ONCE = 8
_LIFETIME_S = 600


def enrol(
    api: Client, identities: Identities, devices: Sequence[str], *, profile: str, task: str, server_url: str, tell: Callable[[int], None]
) -> int:
    """Whoever has no identity in the folder yet gets one; returns how many that were. `tell` hears how many are done. Raises RigError."""
    ca_pem = api.content("/ca.pem")
    identities.prepare(ca_pem)
    wanted = identities.missing(devices)
    ca_sha256 = hashlib.sha256(x509.load_pem_x509_certificate(ca_pem).public_bytes(Encoding.DER)).hexdigest()
    told = set()
    with ThreadPoolExecutor(_AT_ONCE, "enrolment") as pool:
        enrolled = pool.map(lambda device: _enrol_one(api, identities, device, profile, task, ca_sha256), wanted)
        for done, broker_url in enumerate(enrolled, 1):
            told.add(broker_url)
            tell(done)
    known = told.pop() if told else identities.belonging().broker_url
    identities.describe(Belonging(server_url, known, profile, task, orders_keys(api)))
    return len(wanted)


def _enrol_one(api: Client, identities: Identities, device: str, profile: str, task: str, ca_sha256: str) -> str:
    """The broker's address."""
    wish = {"device_id": device, "profile": profile, "task": task, "lifetime_s": _LIFETIME_S}
    token = enrolment.parse(api.post("/enrolment-tokens", wish)["token"])
    if token.ca_sha256 != ca_sha256:
        raise RigError(f"the token of {device} is for another CA than this server shows")
    key_pem, request = new_key(device)
    answer = api.post("/enrol", {"token_id": token.id, "secret": token.secret, "csr_pem": request})
    root = base64.b64decode(answer["root_base64"], validate=True)
    if hashlib.sha256(root).hexdigest() != token.root_sha256:
        raise RigError(f"{device} was given another TUF root than its token names")
    identities.keep(device, key_pem, answer["certificate_pem"])
    return answer["broker_url"]
