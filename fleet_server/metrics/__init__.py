"""The fleet's numbers for Prometheus."""
