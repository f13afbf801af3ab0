"""Results as messages to a broker of this site."""

from collections.abc import Sequence

import msgspec

from edge_agent.errors import Retry
from fleet_contract import mqtt
from fleet_contract.broker import Access, Tls
from fleet_contract.messages import Result

_encoder = msgspec.json.Encoder()


class TopicWriter:
    """Implements outlet.Writer: one JSON object a message."""

    def __init__(self, url: str, topic: str, client: str, access: Access, tls: Tls | None) -> None:
        """Raises BadUrl, or BadIdentity."""
        self._topic = topic
        self._session = mqtt.Session(url, client, tls, subscriptions=[], on_message=lambda *_: None, access=access)
        self._session.start()

    def wait_connected(self, timeout_s: float) -> bool:
        return self._session.wait_connected(timeout_s)

    def write(self, results: Sequence[Result]) -> int:
        for taken, result in enumerate(results):
            try:
                self._session.publish(self._topic, _encoder.encode(result))
            except mqtt.Offline as error:
                if taken:
                    return taken
                raise Retry(str(error), code="offline") from error
        return len(results)

    def close(self) -> None:
        self._session.close()
