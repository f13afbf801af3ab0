"""Runs in MLflow: a folder by default, a server where MLFLOW_TRACKING_URI says so. Nothing is told to anybody else."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import msgspec

from model_tools.errors import Failed
from model_tools.train.record import RECORD, RunRecord, Tracked

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Clock = Callable[[], datetime]

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # the folder is "in maintenance mode": without this word it is refused; a database would need all of MLflow
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
_TAG = "edgefleet.run"
_MOST_CHARS = 500


class Tracking:
    """One run that is open in MLflow."""

    def __init__(self, client: "MlflowClient", uri: str, tracked: Tracked, clock: Clock) -> None:
        self._client, self._uri, self._clock, self.tracked = client, uri, clock, tracked

    def finish(self, record: RunRecord, task_file: bytes) -> None:
        """Parameters, the losses of each look, the metrics, the task file and the record. Raises Failed."""
        from mlflow.entities import Metric, Param, RunTag

        at, run = int(self._clock().timestamp() * 1000), self.tracked.run_id
        plan = msgspec.to_builtins(record.plan) if record.plan else {}
        told = {
            **plan,
            "kind": record.kind,
            "task_sha256": record.task_sha256,
            "data_sha256": record.data_sha256,
            "split_by": record.split_by,
        }
        with _failing(self._uri):
            self._client.log_batch(
                run,
                metrics=[Metric(name, value, at, step) for name, value, step in _measured(record)],
                params=[Param(name, str(value)[:_MOST_CHARS]) for name, value in told.items()],
                tags=[RunTag(_TAG, record.run), RunTag(f"{_TAG}.parent", record.parent or "")],
            )
            self._client.log_text(run, task_file.decode(), "task.toml")
            self._client.log_text(run, msgspec.json.encode(record).decode(), RECORD)
            self._client.set_terminated(run, "FINISHED")

    def abandon(self) -> None:
        """The training has failed; so may the server have."""
        with _failing(self._uri):
            self._client.set_terminated(self.tracked.run_id, "FAILED")


def open_run(uri: str, experiment: str, clock: Clock) -> Tracking:
    """Before the training, so that a server that does not answer costs none. `uri` as MLflow's; without a scheme it is a folder. Raises Failed."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    uri = uri if ":" in uri else Path(uri).absolute().as_uri()
    with _failing(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        found = client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else client.create_experiment(experiment)
        run = client.create_run(number, start_time=int(clock().timestamp() * 1000))
    return Tracking(client, uri, Tracked(without_secrets(uri), experiment, run.info.run_id), clock)


def without_secrets(uri: str) -> str:
    """It without user, password, query and fragment: what may stand in records and errors."""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def _failing(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        shown = without_secrets(uri)
        told = _harmless(str(error), uri) or type(error).__name__
        # the cause names the whole address, and tracebacks are shown around
        cause = error if shown == uri else None
        raise Failed(
            f"the run cannot be tracked at {shown} (MLFLOW_TRACKING_URI; --no-tracking trains without): {told}", field="tracking"
        ) from cause


def _harmless(told: str, uri: str) -> str:
    """The first line, of MLflow or of a library below it, without the secrets of `uri` in any spelling of theirs."""
    parts = urlsplit(uri)
    userinfo, at, _ = parts.netloc.rpartition("@")
    words = [userinfo + at, *userinfo.split(":", 1)[1:], parts.query and f"?{parts.query}", parts.query, parts.fragment]
    for secret in filter(None, words):
        for spelt in (secret, unquote(secret), quote(secret)):
            told = told.replace(spelt, "")
    return told.partition("\n")[0][:_MOST_CHARS]


def _measured(record: RunRecord) -> Iterator[tuple[str, float, int]]:
    for look in record.looks:
        yield "loss", look.loss, look.step
        if look.validation_loss is not None:
            yield "validation_loss", look.validation_loss, look.step
    for name, value in record.metrics.items():
        yield f"validation_{name}", value, 0
    for at, quality in enumerate(record.folds):
        yield f"fold_{record.measure}", quality, at
    for at, trial in enumerate(record.trials):
        yield "trial_cost", trial.cost, at
