"""The published folder of a student."""
