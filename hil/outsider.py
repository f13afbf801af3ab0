"""A device with a true certificate that does what no agent would: to see what the broker and the server make of it."""

from collections.abc import Callable
from datetime import datetime

from fleet_contract import batches, messages, topics
from fleet_contract.mqtt import Session, Tls
from hil.device import DeviceRig
from hil.fleet import FleetRig
from hil.waiting import wait_until

_CONNECT_S = 60.0


class Outsider:
    """Enrolled, and connected without an agent until closed. `acks` are the acknowledgements that the server sent it."""

    def __init__(self, fleet: FleetRig, device_id: str, *, task: str) -> None:
        rig = DeviceRig(device_id, "csv:/dev/null", fleet.home / "devices" / device_id, fleet.logs)
        rig.enrol(fleet.api, fleet.server.state().https_url, profile="generic-x86-64", task=task)
        identity = rig.state / "identity"
        tls = Tls(ca=identity / "ca.pem", certificate=identity / "cert.pem", key=identity / "key.pem")
        self.id = device_id
        self.acks: list[messages.Ack] = []
        own = [topics.down(device_id, topics.Down.ACK)]
        self._session = Session(fleet.server.state().broker_url, device_id, tls, subscriptions=own, on_message=self._hear)
        self._session.start()
        self.wait_connected()

    def __enter__(self) -> "Outsider":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def wait_connected(self) -> None:
        """A broker may throw out whoever breaks its rules. Raises NotInTime."""
        wait_until(lambda: self._session.connected, f"{self.id} to connect", _CONNECT_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Raises mqtt.Offline."""
        self._session.publish(topic, payload, retain=retain)

    def say(self, kind: str, topic: str, at: datetime) -> None:
        """One event record, on any topic. Raises mqtt.Offline."""
        record = messages.Event(at=at, kind=kind)
        self.publish(topic, messages.encode(batches.make("outsider", messages.Lane.EVENTS, 1, [record])))

    def _hear(self, _topic: str, payload: bytes, acknowledge: Callable[[], None]) -> None:
        message = messages.decode_to_device(payload)
        if isinstance(message, messages.Ack):
            self.acks.append(message)
        acknowledge()
