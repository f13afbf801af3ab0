"""Messages about the repository's files: asked for by a device, answered in blocks or with an address."""

from typing import Literal

import msgspec

from fleet_contract.wire import Count, Moment, Struct


class Want(Struct, tag="want"):
    """Ask for a repository file. `block_bytes` sets the grid; `need` is a bitmap of wanted block numbers (see blocks.to_bitmap).

    Answered one to one with Packets of the wanted blocks that exist (at most MAX_BLOCKS_PER_REQUEST may be asked), or with one Refusal.
    With `shared` the device listens on topics.shared(path, block_bytes), and `need` may name every block: each is published there once for all
    who want it. Leftovers are asked for one to one.
    """

    request: str
    path: str
    block_bytes: int
    need: bytes
    shared: bool | msgspec.UnsetType = msgspec.UNSET


class Progress(Struct, tag="progress"):
    """Credit for a shared pass: this device has taken the packets up to number `sequence` of the pass `request`.
    Sent once for each full CREDIT_PACKETS, later while records of this device wait too long; the server runs at most MAX_AHEAD_PACKETS
    before the slowest that keeps up."""

    request: str
    sequence: Count


class WantUrl(Struct, tag="want-url"):
    """Ask for a short-lived HTTPS address of a repository file. Answered with one Url or one Refusal."""

    request: str
    path: str


class Packet(Struct, tag="packet"):
    """Some blocks of a file, compressed together; made and opened by fleet_contract.packets alone. `length` is that of the whole file.
    `request` is that of the Want, or names the shared pass; `sequence` counts the packets of one answer or pass from 0."""

    request: str
    sequence: Count
    length: Count
    block_bytes: int
    numbers: list[Count]
    codec: Literal["none", "zstd"]
    data: bytes


class Url(Struct, tag="url"):
    """Where the file of a WantUrl may be had by HTTPS GET, ranges included, until `expires_at`. The address is the permission: it is a secret."""

    request: str
    url: str
    expires_at: Moment


class Refusal(Struct, tag="refusal"):
    """Why a request was not answered: `code` is not-found, bad-request, too-large, quarantined, no-http, or pass-left: the device is too slow for
    the shared pass and goes on one to one."""

    request: str
    code: str
    reason: str
