"""What the answers of a model have to look like before anything is read off them."""

import numpy as np

from model_tools.errors import BadInput


def check_answers(outputs: np.ndarray, rows: int, classes: int) -> None:
    """(rows, classes), or one figure a row where there are no classes (0). Raises BadInput: a wider output would be read as another answer."""
    fits = outputs.shape == (rows, classes) if classes else outputs.size == rows
    if not fits:
        told = f"{classes} classes" if classes else "one figure a row"
        raise BadInput(
            f"the model answers {list(outputs.shape)} for {rows} rows, the task wants {told}", field="output", limit=classes or 1
        )
