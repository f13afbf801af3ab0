"""A child: the fleet server's own session and file service over one folder. Answers each line on stdin with what was counted; ends with stdin."""

import sys
from pathlib import Path

from bench.delivery.wire import Counted, plan, say
from fleet_server.errors import NotFound
from fleet_server.mqtt.counts import Counts
from fleet_server.mqtt.files import FileService
from fleet_server.mqtt.link import FleetLink

_CONNECT_S = 30.0


class Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def file(self, path: str) -> Path:
        found = self._root / path
        if not found.is_file():
            raise NotFound(f"no file {path!r}")
        return found


def main() -> None:
    told = plan()
    link = FleetLink(Counts())
    service = FileService(Folder(Path(told.served)), link, link.counts)
    service.start()
    link.hand_to(lambda *_: None, service.offer)
    link.start(told.broker_url, told.server.tls, lambda: None)
    if not link.wait_connected(_CONNECT_S):
        sys.exit("no connection to the broker")
    say("ready")
    for _ in sys.stdin:
        say(Counted(*link.bytes_in_out))
    service.close()
    link.close()


if __name__ == "__main__":
    main()
