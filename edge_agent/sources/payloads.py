"""What a message holds that somebody sent: JSON rows, or an encoded picture."""

import threading

from edge_agent.ports import Clock, Input
from edge_agent.sources import rows
from edge_agent.sources.json_rows import parse_rows
from fleet_contract.inputs import ImageInput, InputSpec


class BadPayload(ValueError):
    """`refused` is the input that it would have been, with the reason."""

    def __init__(self, message: str, refused: Input) -> None:
        super().__init__(message)
        self.refused = refused


class Payloads:
    """For one model's input and from any thread. Ids count from the time of making; there is no cursor."""

    def __init__(self, spec: InputSpec, clock: Clock, time: str | None, what: str) -> None:
        """Raises Fatal for a model that takes neither pictures nor columns."""
        self._image = spec if isinstance(spec, ImageInput) else None
        self._columns = None if self._image else rows.columns_of(spec, time, what)
        self._clock = clock
        self._began = clock.now().strftime("%Y%m%dT%H%M%S.%f")
        self._lock = threading.Lock()
        self._count = 0

    def parse(self, payload: bytes) -> list[Input]:
        """At least one, all readable. Raises BadPayload for the whole."""
        return [self._picture(payload, self._image)] if self._image else self._rows(payload)

    def _picture(self, payload: bytes, spec: ImageInput) -> Input:
        from edge_agent.sources import pictures  # OpenCV costs 30 MB that a sensor does not have

        taken = pictures.to_input(payload, spec, self._name(), self._clock.now(), None)
        if taken.values is None:
            raise BadPayload(f"no picture that can be read: {taken.refusal}", taken)
        return taken

    def _rows(self, payload: bytes) -> list[Input]:
        now = self._clock.now()
        try:
            found = parse_rows(payload, self._columns) if self._columns else []
        except ValueError as error:
            raise BadPayload(str(error), rows.to_refusal(payload, rows.JSON, self._name(), now, None)) from error
        return [rows.to_input(row, self._name(), now, None) for row in found]

    def _name(self) -> str:
        with self._lock:
            self._count += 1
            return f"{self._began}-{self._count:08d}"
