"""Comparing variants over seeds."""
