"""Runs the workbench in another process."""
