"""A virtual fleet: one server, one broker and some boards as real processes in one folder."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from hil import workbench
from hil.client import Client
from hil.device import DeviceRig
from hil.errors import BadHome, RigError
from hil.server import ServerRig
from hil.waiting import T, wait_until

_MARK = ".edgefleet-rig"


def fresh_home(home: Path) -> Path:
    """An empty folder for one run. Wipes what an earlier run left; raises BadHome for a folder that holds anything else."""
    if home.exists() and any(home.iterdir()) and not (home / _MARK).exists():
        raise BadHome(f"{home} is not empty and was not made by a rig: it is left alone; name another folder, or remove it yourself")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / _MARK).touch()
    return home


class FleetRig:
    """Everything of one run lies below `home`: server, keys (apart from it), one state folder a device, logs.

    A context manager that ends every process it started.
    """

    def __init__(self, home: Path) -> None:
        self.home = fresh_home(home)
        self.logs = home / "logs"
        self.server = ServerRig(home / "server", home / "keys", self.logs)
        self.devices: dict[str, DeviceRig] = {}
        self._api: Client | None = None

    def __enter__(self) -> "FleetRig":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def api(self) -> Client:
        """The server's API as its first admin. Raises RigError before the server is up."""
        if self._api is None:
            raise RigError("the fleet server has not been started")
        return self._api

    def start_server(self, *, broker: str, tasks: list[Path], fleet: str = "demo", options: Sequence[str] = ()) -> None:
        """`options` are more of `fleet-server init`."""
        if not self.server.token:
            self.server.initialise(fleet, options)
        self.server.start(broker=broker, tasks=tasks)
        self._api = self.server.client()
        (self.home / "admin-token").touch(0o600)
        (self.home / "admin-token").write_text(self.server.token + "\n")

    def publish(self, bundle: Path, *, rollout: bool = True) -> None:
        where = {"server_url": self.server.state().https_url, "ca": self.server.ca, "token_file": self.home / "admin-token"}
        workbench.publish(bundle, **where, key=self.server.releases_key, rollout=rollout)

    def add_device(
        self, device_id: str, source: str, *, profile: str, task: str, options: Sequence[str] = (), inside: Sequence[str] = ()
    ) -> DeviceRig:
        """Enrol a new board and start its agent, with more `edge-agent run` options if given; `inside` as in DeviceRig."""
        device = DeviceRig(device_id, source, self.home / "devices" / device_id, self.logs, inside)
        device.enrol(self.api, self.server.state().https_url, profile=profile, task=task)
        device.options = list(options)
        device.start()
        self.devices[device_id] = device
        return device

    def wait(self, condition: Callable[[], T], what: str, timeout_s: float) -> T:
        """As wait_until; a program that has died ends the wait. Raises NotInTime or ProgramFailed."""
        return wait_until(condition, what, timeout_s, check=self.check)

    def check(self) -> None:
        self.server.check()
        for device in self.devices.values():
            device.check()

    def close(self) -> None:
        for device in self.devices.values():
            device.close()
        if self._api:
            self._api.close()
        self.server.close()
