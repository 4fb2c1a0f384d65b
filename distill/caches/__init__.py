"""Tools around a cache: what it costs, how faithful and how whole it is, and how it is shared."""
