"""What an answer says beyond its label and its value."""

import msgspec


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Ranking(_Struct, tag="ranking"):
    """The likeliest classes, best first, and their probabilities."""

    labels: list[str]
    values: list[float]


class Targets(_Struct, tag="targets"):
    """Each target's value, in the unit that the manifest says."""

    values: dict[str, float]


class Box(_Struct):
    """A thing found, with its corners as shares of the picture's width and height; it may reach beyond the picture."""

    label: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


class Boxes(_Struct, tag="boxes"):
    """The things found, best first. `found` is how many there were, where not all are told."""

    found: int
    boxes: list[Box]


Detail = Ranking | Targets | Boxes
