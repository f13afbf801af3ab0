"""Bundles around models that were made elsewhere: a description, model files, samples."""
