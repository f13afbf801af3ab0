"""Signing bundles into the TUF repository's delegated `releases` role."""
