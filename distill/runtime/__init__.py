"""Files, progress, threads, resizing: what knows nothing of the field."""
