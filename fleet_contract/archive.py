"""The one form of ZIP that a bundle may have: stored, plain names, fixed times, bodies on block boundaries, nothing before, between or after.

The reader writes what it has read once more and compares, so no two archives hold the same entries and nothing hides in a header.
"""

import io
import zipfile
from collections.abc import Mapping

from fleet_contract import blocks, limits, names
from fleet_contract.errors import BadBundle, ContractError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_PAD_ID = 0xD935
"""The extra field that zipalign uses for padding."""


def write(bodies: Mapping[str, bytes], align: int) -> bytes:
    """The archive of these entries, in this order; each body begins on a multiple of `align`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in bodies.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            header = 30 + len(name.encode()) + 4
            pad = -(out.tell() + header) % align
            info.extra = _PAD_ID.to_bytes(2, "little") + pad.to_bytes(2, "little") + bytes(pad)
            archive.writestr(info, data)
            info.extra = b""  # the central directory needs no padding
    return out.getvalue()


def spans(data: bytes, first: str) -> dict[str, tuple[int, int]]:
    """Offset and length of each entry's bytes, once the archive is proven canonical with `first` as its first entry. Raises BadBundle."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            bodies = {info.filename: archive.read(info) for info in infos[: limits.MAX_BUNDLE_ENTRIES] if _plain(info)}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise BadBundle(f"not a bundle archive: {error}", field="archive") from error
    if len(infos) != len(bodies):
        raise BadBundle(
            "entries are compressed, encrypted, repeated, misnamed or too many", field="archive", limit=limits.MAX_BUNDLE_ENTRIES
        )
    align = blocks.block_bytes_for(sum(map(len, bodies.values())))
    if next(iter(bodies), None) != first or write(bodies, align) != data:
        raise BadBundle("the archive is not in canonical form", field="archive")
    return {info.filename: (_body_start(data, info), info.file_size) for info in infos}


def _plain(info: zipfile.ZipInfo) -> bool:
    try:
        names.path(info.filename)
    except ContractError:
        return False
    return info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 0x1 and info.file_size == info.compress_size


def _body_start(data: bytes, info: zipfile.ZipInfo) -> int:
    at = info.header_offset
    return at + 30 + int.from_bytes(data[at + 26 : at + 28], "little") + int.from_bytes(data[at + 28 : at + 30], "little")
