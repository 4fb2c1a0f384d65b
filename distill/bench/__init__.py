"""Benchmarks: both sides run in turn, inside one process, so that a shared machine disturbs them alike."""
