"""Which `traceparent` makes the agent follow a record (W3C Trace Context)."""

import pytest

from edge_agent.serving.trace_context import followed

ID, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(f"00-{ID}-{PARENT}-01", id="sampled"),
        pytest.param(f"00-{ID}-{PARENT}-03", id="sampled, and a flag to come"),
        pytest.param(f"cc-{ID}-{PARENT}-01", id="a version to come"),
        pytest.param(f"cc-{ID}-{PARENT}-01-what-the-future-holds", id="a version to come, longer"),
    ],
)
def test_a_caller_that_records_its_trace_is_followed(field: str) -> None:
    found = followed(field)
    assert found is not None
    assert (found.id, found.parent) == (ID, PARENT)


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param(f"00-{ID}-{PARENT}-00", id="not sampled"),
        pytest.param(f"ff-{ID}-{PARENT}-01", id="the version that none has"),
        pytest.param(f"00-{ID}-{PARENT}-01-more", id="the first version, longer"),
        pytest.param(f"cc-{ID}-{PARENT}-01more", id="a version to come, run together"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", id="no trace"),
        pytest.param(f"00-{ID}-{'0' * 16}-01", id="no parent"),
        pytest.param(f"00-{ID.upper()}-{PARENT}-01", id="capitals"),
        pytest.param(f"00-{ID}-{PARENT}-01, 00-{ID}-{PARENT}-01", id="twice"),
        pytest.param(f" 00-{ID}-{PARENT}-01", id="a space before it"),
    ],
)
def test_another_is_not(field: str | None) -> None:
    assert followed(field) is None
