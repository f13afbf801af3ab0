"""Errors of the contract. `field` names what was wrong, `limit` the bound it broke (None where there is none)."""


class ContractError(ValueError):
    """Outside input broke the contract. The text says what to do about it."""

    code = "contract"

    def __init__(self, message: str, *, field: str | None = None, limit: str | int | float | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.limit = limit


class BadName(ContractError):
    """A device id, bundle name or path outside its charset."""

    code = "bad-name"


class BadTopic(ContractError):
    code = "bad-topic"


class TooLarge(ContractError):
    code = "too-large"


class MalformedMessage(ContractError):
    code = "malformed-message"


class UnknownVersion(ContractError):
    """The peer speaks a schema version that this program does not know: upgrade one of them."""

    code = "unknown-version"


class BadOrder(ContractError):
    code = "bad-order"


class OrderForgery(BadOrder):
    """Not signed by a trusted orders key."""

    code = "order-forgery"


class OrderMisdirected(BadOrder):
    """For another device or another hardware profile."""

    code = "order-misdirected"


class OrderExpired(BadOrder):
    code = "order-expired"


class OrderReplayed(BadOrder):
    """Its counter is older than one already seen."""

    code = "order-replayed"


class BadBundle(ContractError):
    """Flipped byte, missing or foreign entry, or an archive that is not in our one canonical form."""

    code = "bad-bundle"


class BadModel(ContractError):
    """A model file that refers to other files, to operators that nobody here knows, or that is no model."""

    code = "bad-model"


class BadSketch(ContractError):
    code = "bad-sketch"


class BadBlocks(ContractError):
    code = "bad-blocks"


class BadDelta(ContractError):
    """Malformed, or it does not make what it says from this base."""

    code = "bad-delta"


class BadOnlineKeys(ContractError):
    code = "bad-online-keys"
