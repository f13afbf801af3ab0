"""Benchmarks: each measures its limit in the same run, prints a table and ends with one JSON line. `python -m bench` lists them."""
