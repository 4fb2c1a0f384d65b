"""Bandpass (the public functions are put back here when all parts are in)."""
