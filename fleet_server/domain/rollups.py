"""What a minute of inferences comes to. Pure."""

LATENCY_BOUNDS_US = (250, 1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000)
"""Upper bounds, inclusive; an eighth bucket has what took longer."""
MAX_VALUE = 1e30
"""Values are held within it before they are added, so that no device can make a sum that the database refuses."""
