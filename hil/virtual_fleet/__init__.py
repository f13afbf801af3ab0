"""Thousands of light devices in a few processes, which speak the fleet's real contract: the load tool, and the judge of its ledger."""
