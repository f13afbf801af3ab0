"""The device daemon: it runs the fleet's models, keeps working without a network, and says what it saw."""

__version__ = "0.1.0"
