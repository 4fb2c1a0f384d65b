"""The cost and fidelity of a cache, and sharing it."""
