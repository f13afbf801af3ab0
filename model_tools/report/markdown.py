"""Words of task files and data in Markdown: whatever they hold, they make no table, heading, link or HTML."""

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"[\\|`*<>\[\]#~&]|(?<![^\W_])_|_(?![^\W_])|^[-+](?= |$)|(?<=\d)[.)](?= |$)")
"""Of CommonMark and its tables. An underscore within a word is none."""


def plain(words: str) -> str:
    """In one line, with nothing in it that is markup (CommonMark 0.31, backslash escapes)."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(words.split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells of any words."""
    lines = [f"| {' | '.join(map(plain, cells))} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{' --- |' * len(head)}", *lines[1:]])
