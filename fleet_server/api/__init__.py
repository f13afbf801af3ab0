"""The HTTP API, one noun a file: schemas and routes; what they mean is in the services."""
