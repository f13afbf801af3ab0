"""Columns that a model should hardly see, though they are numbers."""

import numpy as np

from model_tools.data.dataset import Splits


def row_numbers(splits: Splits) -> tuple[str, ...]:
    """Columns that grow from each row of the file to the next: a number or a time of the row, not a measurement. On a device they go on
    growing, which is drift. Empty for pictures."""
    if not splits.columns:
        return ()
    rows = splits.train.join(splits.validation).join(splits.test)
    inputs = rows.inputs[np.argsort([int(number) for number in rows.ids])]
    growing = (np.diff(inputs, axis=0) > 0).all(axis=0)
    return tuple(name for name, grows in zip(splits.columns, growing, strict=True) if grows)
