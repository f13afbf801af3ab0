"""Where the passphrase of a key file, or the PIN of a token, comes from: a prompt or a file; never the command line, which others can read."""

from collections.abc import Callable
from pathlib import Path

from fleet_contract import limits
from model_tools.errors import BadInput

Passphrase = Callable[[str, bool], str | None]
"""(name of the key, whether it is being made now) -> the passphrase; None to leave a new key unencrypted. Raises BadInput."""
Prompt = Callable[[str, bool], str]
"""(what to ask for, whether to ask twice) -> what a person typed without seeing it."""


def unencrypted(name: str, new: bool) -> str | None:
    """For trying out: new keys are plain. An encrypted one cannot be opened. Raises BadInput."""
    if new:
        return None
    raise BadInput(f"the key {name} is encrypted: give --passphrase-file, or leave --plain out", field="passphrase")


def from_file(path: Path) -> Passphrase:
    """The first line of `path`, for every key; of a folder the file that is called as the key is."""

    def read(name: str, new: bool) -> str:
        file = path / name if path.is_dir() else path
        try:
            text = file.read_text().partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise BadInput(f"cannot read the passphrase of {name} from {file}: {why}", field="passphrase-file") from error
        return _checked(text, name) if new else text

    return read


def prompted(ask: Prompt) -> Passphrase:
    """Asks once for each key, twice for a new one."""
    known: dict[str, str] = {}

    def remember(name: str, new: bool) -> str:
        if name not in known:
            text = ask(f"Passphrase of the {'new ' if new else ''}key {name}", new)
            known[name] = _checked(text, name) if new else text
        return known[name]

    return remember


def _checked(text: str, name: str) -> str:
    if not limits.MIN_PASSPHRASE_CHARS <= len(text) <= limits.MAX_PASSPHRASE_CHARS:
        raise BadInput(
            f"the passphrase of {name} has {len(text)} characters, it needs {limits.MIN_PASSPHRASE_CHARS} to {limits.MAX_PASSPHRASE_CHARS}",
            field="passphrase",
            limit=limits.MIN_PASSPHRASE_CHARS,
        )
    return text
