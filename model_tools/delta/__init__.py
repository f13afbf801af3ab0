"""Differences between two bundles, tensor by tensor, for devices that hold the older one."""
