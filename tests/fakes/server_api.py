"""A client of the API, in this process, with a token of each role."""

import asyncio

import httpx

from fleet_server.api.app import create_app
from fleet_server.services import tokens
from tests.fakes.server_bundles import make_bundle
from tests.fakes.server_world import World


class Api:
    """`get` and `post` as a role ("" for no token at all)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._transport = httpx.ASGITransport(create_app(world.fleet))
        self.tokens = {
            role: tokens.create(world.engine, role, by="test", now=world.clock(), new_secret=world.new_secret)
            for role in ("viewer", "operator", "admin")
        }

    def get(self, path: str, role: str = "viewer", **options: object) -> httpx.Response:
        return self.request("GET", path, role, **options)

    def post(self, path: str, json: object = None, role: str = "operator", **options: object) -> httpx.Response:
        return self.request("POST", path, role, json=json, **options)

    def request(
        self, method: str, path: str, role: str = "", *, headers: dict[str, str] | None = None, **options: object
    ) -> httpx.Response:
        given = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        return asyncio.run(self._send(method, path, given | (headers or {}), options))

    def upload(self, archive: bytes, releases: bytes | None = None, role: str = "operator") -> httpx.Response:
        parts = {"bundle": archive, "releases": self.world.repository.following(archive) if releases is None else releases}
        return self.request("POST", "/v1/bundles", role, files=parts)

    def publish(self, version: str = "1", **options: object) -> str:
        answer = self.upload(make_bundle(version, **options))
        if answer.status_code != 201:
            raise AssertionError(answer.text)
        return answer.json()["sha256"]

    async def _send(self, method: str, path: str, headers: dict[str, str], options: dict) -> httpx.Response:
        async with httpx.AsyncClient(transport=self._transport, base_url="http://fleet") as client:
            return await client.request(method, path, headers=headers, **options)
