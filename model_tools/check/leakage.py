"""What training rows give away of test rows: a score on these is then no forecast of what a device will meet."""

import numpy as np

from model_tools.check.finding import Finding, by_share, name_some
from model_tools.check.table import TEST, Table

_COMMON = 0.05


def check_leakage(table: Table) -> list[Finding]:
    """What the test has from training: rows, groups, stretches of time."""
    return [*find_copies(table), *find_groups(table), *find_times(table)]


def find_copies(table: Table) -> list[Finding]:
    """Test rows that are training rows too, value for value."""
    tested = table.rows(TEST)
    copied = tested[np.isin(table.digests[tested], table.digests[table.learnt])]
    if not len(copied):
        return []
    share = len(copied) / len(tested)
    severity = by_share(share, _COMMON, 0.01) if table.is_rich and len(copied) > 1 else "note"
    natural = "" if table.is_rich else "; the columns have so few different values that it has to be so"
    told = f"of {len(tested)} test rows {len(copied)} are also among the training rows{natural}"
    return [Finding("duplicates-across-splits", severity, told, share=share, examples=name_some(table.ids[copied]))]


def find_groups(table: Table) -> list[Finding]:
    """Test rows of a machine or person that training has seen, where the split is not by time: there a machine's future is what is asked for."""
    if not table.grouped or table.by == "group":
        return []
    tested = table.rows(TEST)
    seen = tested[np.isin(table.groups[tested], table.groups[table.learnt])]
    if not len(seen):
        return []
    share = len(seen) / len(tested)
    severity = "error" if table.by == "shares" else "note"
    told = f'{share:.0%} of the test rows are of groups that training has seen; split.by = "group" keeps groups whole'
    return [Finding("group-across-splits", severity, told, share=share, examples=name_some(table.ids[seen]))]


def find_times(table: Table) -> list[Finding]:
    """Test rows that are older than what was learnt, where neither groups nor time part them."""
    if table.times is None or table.by in ("group", "time"):
        return []
    tested, newest = table.rows(TEST), table.times[table.learnt].max()
    older = tested[table.times[tested] < newest]
    share = len(older) / len(tested)
    if not share:
        return []
    told = f'{share:.0%} of the test rows are older than the newest training row; split.by = "time" tests on what comes later'
    severity = by_share(share, 0.2 if table.by == "shares" else 2.0, 0.01)
    return [Finding("time-overlap", severity, told, share=share, examples=name_some(table.ids[older]))]
