"""Which counter an order gets. Pure."""

MAX_LEAD = 1_000_000
"""No restored database is so many orders behind. A device that is farther ahead follows a thief's order, whose counter ends with the key that
signed it: to follow it too would leave no number after it."""


def is_behind(issued: int, reported: int) -> bool:
    """Has the device accepted a higher counter than this server remembers? Then it would refuse ours."""
    return issued < reported <= issued + MAX_LEAD


def following(issued: int, reported: int) -> int:
    return 1 + (reported if is_behind(issued, reported) else issued)
