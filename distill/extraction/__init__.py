"""From a teacher to a cache."""
