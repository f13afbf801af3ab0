"""The running agent: its threads, in the order in which they start and end."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.delivery.downloads import Downloads
from edge_agent.delivery.exchange import Exchange
from edge_agent.errors import Fatal
from edge_agent.idle import Idle
from edge_agent.link.ignored import Ignored
from edge_agent.link.mqtt import Handlers, MqttLink
from edge_agent.link.uplink import Uplink
from edge_agent.monitor.thermal import Thermometer
from edge_agent.pipeline import Pipeline
from edge_agent.update.inbox import Inbox
from edge_agent.update.loop import UpdateLoop
from fleet_contract.messages import Follow
from fleet_contract.order import SamplingCampaign

_WATCH_S = 1.0
_LAST_WORDS_S = 5.0


@dataclass(frozen=True)
class Agent:
    """`follow` takes what the server asks to trace; `campaign` is what the newest order asks to sample; `start_local` begins to answer local
    applications; `report` shows the state to a person; `record_end` makes why the agent gives up an event."""

    link: MqttLink
    exchange: Exchange
    downloads: Downloads
    uplink: Uplink
    updates: UpdateLoop
    pipeline: Pipeline | Idle
    inbox: Inbox
    ignored: Ignored
    follow: Callable[[Follow], None]
    thermometer: Thermometer
    campaign: Callable[[], SamplingCampaign | None]
    start_local: Callable[[], None]
    report: Callable[[], None]
    record_end: Callable[[Fatal], None]

    def serve(self, stop: threading.Event) -> None:
        """The pipeline in this thread until `stop`; the model comes up without the server, and the records wait for it.
        Raises Fatal when the source can never feed the model; the server is told first, if it can be reached."""
        ended = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ended,), name="watch", daemon=True)
        files = self.exchange
        handlers = Handlers(self._take, self.uplink.on_ack, files.receive, files.receive_shared, self._greet, self.follow)
        try:
            self.updates.start()
            self.uplink.start()
            self.link.start(handlers)
            self.start_local()
            watch.start()
            self.pipeline.run(stop)
        except Fatal as error:
            self.record_end(error)
            self.uplink.drain(_LAST_WORDS_S)
            raise
        finally:
            ended.set()
            self.downloads.close()
            self.exchange.close()
            self.updates.close()
            self.ignored.tell(last=True)
            self.uplink.close()
            self.link.close()

    def _take(self, envelope: bytes) -> None:
        self.inbox.put(envelope)
        self.updates.wake()

    def _greet(self) -> None:
        self.uplink.on_connected()
        self.updates.wake()

    def _watch(self, ended: threading.Event) -> None:
        """Passes on what is level-triggered: the newest campaign, what was ignored, the heat of the board, and the state for a person."""
        while not ended.is_set():
            self.pipeline.set_campaign(self.campaign())
            self.ignored.tell()
            self.thermometer.look()
            self.report()
            ended.wait(_WATCH_S)
