"""What may be called what, and which topic belongs to whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import limits, names, topics
from fleet_contract.errors import BadName, BadTopic
from fleet_contract.topics import Down, Up

ids = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=limits.MAX_DEVICE_ID_CHARS)


@pytest.mark.parametrize("value", ["a", "camera-3", "-", "0", "x" * limits.MAX_DEVICE_ID_CHARS])
def test_a_device_id(value: str) -> None:
    assert names.device_id(value) == value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("x" * (limits.MAX_DEVICE_ID_CHARS + 1), id="too long"),
        pytest.param("Camera", id="a capital"),
        pytest.param("a b", id="a space"),
        pytest.param("a/b", id="a slash"),
        pytest.param("+", id="a wildcard"),
        pytest.param("#", id="a wildcard of all"),
        pytest.param("a\n", id="a line end"),
        pytest.param("a\0", id="a zero"),
        pytest.param("é", id="a letter beyond ASCII"),
        pytest.param("٣", id="a digit beyond ASCII"),
        pytest.param("$share", id="a dollar"),
        pytest.param("%u", id="a pattern"),
    ],
)
def test_no_device_id(value: str) -> None:
    with pytest.raises(BadName) as caught:
        names.device_id(value)
    assert caught.value.field == "device_id" and caught.value.limit
    with pytest.raises(BadName):
        topics.up(value, Up.STATUS)


@pytest.mark.parametrize("value", ["a", "1.0.0", "digits_v2", "a-b.c", "x" * limits.MAX_NAME_CHARS])
def test_a_name(value: str) -> None:
    assert names.name(value, "version") == value


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a..b", ".hidden", "-x", "_x", "A", "a b", "a/b", "a\n", "x" * (limits.MAX_NAME_CHARS + 1)]
)
def test_no_name(value: str) -> None:
    with pytest.raises(BadName) as caught:
        names.name(value, "version")
    assert caught.value.field == "version"


@pytest.mark.parametrize("value", ["a", "metadata/2.snapshot.json", "targets/bundles/ab.x-1.bundle", "A_b/-c"])
def test_a_path(value: str) -> None:
    assert names.path(value) == value


@pytest.mark.parametrize(
    "value", ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/..b", "a/.b", "a\\b", "a b", "a\0", "a\n", "C:", "é", "a/" * 200 + "a"]
)
def test_no_path(value: str) -> None:
    with pytest.raises(BadName):
        names.path(value)


def test_a_spiffe_id() -> None:
    assert names.spiffe_id("demo", "camera-3") == "spiffe://demo/device/camera-3"
    with pytest.raises(BadName):
        names.spiffe_id("demo.example/x", "camera-3")


@given(ids, st.sampled_from(Up))
def test_topics_up_are_read_back(device: str, kind: Up) -> None:
    topic = topics.up(device, kind)
    assert topics.parse_up(topic) == (device, kind)
    with pytest.raises(BadTopic):
        topics.parse_down(topic)


@given(ids, st.sampled_from(Down))
def test_topics_down_are_read_back(device: str, kind: Down) -> None:
    topic = topics.down(device, kind)
    assert topics.parse_down(topic) == (device, kind)
    with pytest.raises(BadTopic):
        topics.parse_up(topic)


@pytest.mark.parametrize(
    "topic",
    [
        pytest.param("", id="empty"),
        pytest.param("edgefleet/v2/a/up/status", id="another version"),
        pytest.param("edgefleet/v1/a/up", id="too short"),
        pytest.param("edgefleet/v1/a/up/status/x", id="too long"),
        pytest.param("edgefleet/v1/a/up/gossip", id="an unknown kind"),
        pytest.param("edgefleet/v1/A/up/status", id="a device outside the charset"),
        pytest.param("edgefleet/v1//up/status", id="no device"),
        pytest.param("edgefleet/v1/+/up/status", id="a wildcard"),
        pytest.param("x/edgefleet/v1/a/up/status", id="below something else"),
    ],
)
def test_no_topic(topic: str) -> None:
    with pytest.raises(BadTopic):
        topics.parse_up(topic)


@given(ids, ids, st.sampled_from(Up), st.sampled_from(Down))
def test_a_device_has_its_own_topics_and_no_others(me: str, other: str, sent: Up, read: Down) -> None:
    mine = me == other
    assert topics.device_may(me, topics.up(other, sent), write=True) == mine
    assert topics.device_may(me, topics.down(other, read), write=False) == mine
    assert topics.device_may(me, topics.all_down(other), write=False) == mine
    assert not topics.device_may(me, topics.down(other, read), write=True)
    assert not topics.device_may(me, topics.up(other, sent), write=False)


@pytest.mark.parametrize(
    "topic",
    [
        "#",
        "+/#",
        "$SYS/#",
        "edgefleet/v1/#",
        "edgefleet/v1/+/down/+",
        "edgefleet/v1/a/#",
        "edgefleet/v1/a/down/#",
        "edgefleet/v1/a/down/gossip",
    ],
)
def test_a_device_may_not_listen_widely(topic: str) -> None:
    assert not topics.device_may("a", topic, write=False)
    assert not topics.device_may("a", topic, write=True)


def test_every_device_may_read_a_shared_topic_and_none_may_write_or_guess_there() -> None:
    topic = topics.shared("targets/bundles/x.bundle", 4096)
    assert topics.device_may("a", topic, write=False) and not topics.device_may("a", topic, write=True)
    assert topic != topics.shared("targets/bundles/x.bundle", 8192)
    for other in ("edgefleet/v1/_shared/blocks/+", "edgefleet/v1/_shared/#", topic + "/x", "edgefleet/v1/_shared/up/status"):
        assert not topics.device_may("a", other, write=False)


def test_mosquitto_is_told_the_same() -> None:
    assert topics.mosquitto_patterns() == (
        "pattern write edgefleet/v1/%u/up/+",
        "pattern read edgefleet/v1/%u/down/+",
        "pattern read edgefleet/v1/_shared/blocks/+",
    )
    assert (topics.all_up(), topics.all_up(Up.WANT)) == ("edgefleet/v1/+/up/+", "edgefleet/v1/+/up/want")
