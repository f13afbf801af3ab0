"""A pipeline in a thread of its own, as long as a test looks at it."""

import threading
from contextlib import contextmanager

from edge_agent.pipeline import Pipeline


@contextmanager
def running(pipeline: Pipeline):
    """The pipeline in its thread; what it raised is raised here."""
    stop, raised = threading.Event(), []

    def work() -> None:
        try:
            pipeline.run(stop)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    if raised:
        raise raised[0]
