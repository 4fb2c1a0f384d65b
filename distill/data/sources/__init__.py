"""Opening data sets."""
