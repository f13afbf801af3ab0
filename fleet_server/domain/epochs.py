"""How often a device may begin anew with an outbox. Pure."""

from collections import Counter
from collections.abc import Set as AbstractSet

from fleet_contract import limits

StreamKey = tuple[str, str, str]
"""Device, epoch, lane."""


def excessive(known: AbstractSet[StreamKey], wanted: AbstractSet[StreamKey]) -> set[str]:
    """The devices that begin a stream with which they have had more than limits.MAX_DEVICE_EPOCHS_COUNT epochs. `known` are all streams of those who
    are in `wanted`."""
    begun = wanted - known
    if not begun:
        return set()
    devices = {device for device, _, _ in begun}
    epochs = {(device, epoch) for device, epoch, _ in known | begun if device in devices}
    counted = Counter(device for device, _ in epochs)
    return {device for device, count in counted.items() if count > limits.MAX_DEVICE_EPOCHS_COUNT}
