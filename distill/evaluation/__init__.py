"""Scoring test sets."""
