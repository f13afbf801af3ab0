"""When Python looks for objects that hold each other in a circle: these programs make few, and hold very many others for a moment."""

import gc

_NEW_OBJECTS, _YOUNG, _MIDDLE = 100_000, 50, 100


def look_rarely() -> None:
    """From now on; what is there already is never looked at again. With Python's own pace (after 700 new objects) a third of the compactor's time
    goes into finding nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _YOUNG, _MIDDLE)
