"""What a thief of the orders key, or whoever can put bytes on a device's order topic, cannot do."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet_contract import limits
from tests.fakes.attacked_device import BUILT_AT
from tests.fakes.small_bundle import small_bundle

UNSIGNED = small_bundle("8.0.0", model=b"nobody signed this")


def _future() -> dict:
    begin = datetime.now(UTC) + timedelta(hours=1)
    return {"issued_at": begin, "not_after": begin + timedelta(days=1)}


def _past() -> dict:
    return {"issued_at": datetime.now(UTC) - timedelta(days=2), "not_after": datetime.now(UTC) - timedelta(days=1)}


def _long() -> dict:
    return {"not_after": datetime.now(UTC) + timedelta(seconds=limits.MAX_ORDER_LIFETIME_S + 60)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param(lambda: {"device": "dev-2"}, "order-misdirected", id="another device's order"),
        pytest.param(lambda: {"profile": "generic-arm64"}, "order-misdirected", id="wrong hardware profile"),
        pytest.param(lambda: {"counter": 1}, "order-replayed", id="an older counter"),
        pytest.param(_past, "order-expired", id="expired"),
        pytest.param(_future, "order-expired", id="from the future"),
        pytest.param(_long, "bad-order", id="lives too long"),
        pytest.param(lambda: {"counter": limits.MAX_COUNT + 1}, "bad-order", id="a counter that nothing could follow"),
        pytest.param(lambda: {"counter": -1}, "bad-order", id="a negative counter"),
        pytest.param(lambda: {"version": 2}, "unknown-version", id="another version"),
        pytest.param(lambda: {"key": Ed25519PrivateKey.generate()}, "order-forgery", id="forged"),
    ],
)
def test_an_order_that_is_not_for_this_device_now_changes_nothing(world, changes: Callable[[], dict], code: str) -> None:
    world.publish("2.0.0")
    world.publish("3.0.0")
    assert world.converges("2.0.0", 2)
    before = world.device.state
    world.device.inbox.put(world.repository.order(world.archives["3.0.0"], **{"counter": 3, **changes()}))
    assert world.device.settle() is None
    assert world.device.codes("order.rejected") == [code]
    assert world.device.state == before
    assert world.converges("3.0.0", 3)


def test_a_replayed_order_is_refused_after_a_restart_too(world) -> None:
    world.publish("2.0.0")
    old = world.repository.order(world.archives["1.0.0"], 1)
    assert world.converges("2.0.0", 2)
    for _ in range(2):
        world.device.inbox.put(old)
        assert world.device.settle() is None
        assert world.device.version == "2.0.0"
        world.device.restart()
    assert world.device.codes("order.rejected") == ["order-replayed"] * 2


def test_a_duplicate_message_changes_nothing_and_is_told_once(world) -> None:
    """QoS 1 delivers again, with DUP not set; a retained order comes with every connection."""
    world.publish("2.0.0")
    envelope = world.repository.order(world.archives["2.0.0"], 2)
    told = []
    for _ in range(5):
        world.device.inbox.put(envelope)
        assert world.device.settle() is None
        told.append(len(world.device.store.records))
    assert world.device.version == "2.0.0"
    assert set(told) == {told[0]}
    assert world.device.state.counter == 2


def test_one_counter_is_one_order(world) -> None:
    """The same counter for another bundle, were it signed by the true key."""
    world.publish("2.0.0")
    world.publish("3.0.0")
    assert world.converges("2.0.0", 2)
    world.order("3.0.0", 2)
    assert world.device.settle() is None
    assert world.device.codes("order.rejected") == ["order-replayed"]
    assert world.device.version == "2.0.0"


class TestStolenOrdersKey:
    """`world.order` signs with it."""

    def test_it_can_point_back_to_a_signed_bundle_with_a_newer_counter(self, world) -> None:
        """This is all that it can do; nothing else is signed, unexpired and fits."""
        world.publish("2.0.0")
        assert world.converges("2.0.0", 2)
        assert world.converges("1.0.0", 3)

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            pytest.param({}, "no-target", id="a bundle that nobody signed"),
            pytest.param({"target_path": "bundles/toy-1.0.0.bundle"}, "bad-target", id="its own bytes under a signed name"),
            pytest.param(
                {"target_path": "bundles/toy-1.0.0.bundle", "sha256": "0" * 64}, "bad-target", id="another digest of a signed name"
            ),
            pytest.param({"target_path": "bundles/toy-2.0.0.bundle", "length": 7}, "bad-target", id="another length of a signed name"),
        ],
    )
    def test_it_cannot_bring_in_a_bundle_of_its_own(self, world, fields: dict, code: str) -> None:
        path = world.publish("2.0.0")
        world.repository.files[f"targets/{path}"] = UNSIGNED
        world.device.order(UNSIGNED, 2, **fields)
        retry = world.device.settle()
        rejected = world.device.codes("update.rejected")
        assert (retry or rejected[-1]) == code
        assert world.device.version == "1.0.0"
        assert world.device.state.quarantined == ()
        assert world.converges("2.0.0", 3)

    def test_it_cannot_revive_a_withdrawn_bundle(self, world) -> None:
        world.repository.withdraw(world.publish("2.0.0"))
        world.order("2.0.0", 2)
        assert world.device.settle() == "no-target"
        assert world.device.version == "1.0.0"

    def test_a_bundle_of_another_board_does_not_fit(self, world) -> None:
        """The order may name this board; the bundle says for which boards it is."""
        foreign = small_bundle("5.0.0", profiles=["generic-arm64"])
        world.repository.publish(foreign)
        world.device.order(foreign, 2)
        assert world.device.settle() is None
        assert world.device.codes("update.rejected") == ["wrong-profile"]
        assert world.device.version == "1.0.0"
        world.publish("2.0.0")
        assert world.converges("2.0.0", 3)

    def test_its_counter_does_not_outlast_it(self, world) -> None:
        """Counted to the end of all numbers; then targets delegates orders to a new key, which begins anew."""
        old = world.repository.order(world.archives["1.0.0"], limits.MAX_COUNT)
        world.publish("2.0.0")
        world.device.inbox.put(old)
        assert world.device.settle() is None
        world.order("2.0.0", 2)
        assert world.device.settle() is None
        assert world.device.codes("order.rejected") == ["order-replayed"]
        world.repository.replace_orders_key()
        assert world.converges("2.0.0", 3)
        world.device.inbox.put(old)
        assert world.device.settle() is None
        assert world.device.codes("order.rejected") == ["order-replayed", "order-forgery"]
        assert (world.device.version, world.device.state.counter) == ("2.0.0", 3)

    def test_its_time_moves_no_clock_beyond_the_metadata(self, world) -> None:
        """On a board without a clock, orders are witnesses of time; a thief's must not make the device refuse the metadata that revokes him."""
        device = world.device
        device.clock.ahead = datetime(1970, 1, 1, tzinfo=UTC) - datetime.now(UTC)
        device.restart()
        far = datetime.now(UTC) + timedelta(days=4_000)
        device.inbox.put(world.repository.order(world.archives["1.0.0"], 2, issued_at=far, not_after=far + timedelta(days=1)))
        assert device.settle() is None
        assert device.codes("order.rejected") == ["order-expired"]
        assert BUILT_AT <= device.time.now() < datetime.now(UTC) + timedelta(days=1)
        world.repository.replace_orders_key()
        world.publish("2.0.0")
        assert world.converges("2.0.0", 3)


@pytest.mark.parametrize(
    "envelope",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="no envelope"),
        pytest.param(b"[" * 16_000, id="deep nesting"),
        pytest.param(b"{" * limits.MAX_ORDER_BYTES * 2, id="too large"),
        pytest.param(b'{"payloadType":"text/plain","payload":"","signatures":[]}', id="another payload"),
        pytest.param(bytes(range(256)), id="noise"),
    ],
)
def test_bytes_that_are_no_order_are_told_and_forgotten(world, envelope: bytes) -> None:
    world.device.inbox.put(envelope)
    assert world.device.settle() is None
    assert len(world.device.codes("order.rejected")) == 1
    world.publish("2.0.0")
    assert world.converges("2.0.0", 2)
