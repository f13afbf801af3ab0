"""Many small questions put to a model in few large ones: opening it again for each would cost more than its answers."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

Respond = Callable[[np.ndarray], np.ndarray]
"""float32 inputs as a Dataset has them -> float32 outputs (rows, ...)."""
_VALUES = 2**22
"""Of inputs that go together."""


def respond_each(respond: Respond, questions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The outputs of each of the questions, in their order."""
    waiting: list[np.ndarray] = []
    for question in questions:
        waiting.append(question)
        if sum(one.size for one in waiting) >= _VALUES:
            yield from _together(respond, waiting)
            waiting = []
    if waiting:
        yield from _together(respond, waiting)


def _together(respond: Respond, questions: list[np.ndarray]) -> Iterator[np.ndarray]:
    outputs = respond(np.concatenate(questions))
    yield from np.split(outputs, np.cumsum([len(question) for question in questions])[:-1])
