"""A run's folder, identity and validity."""
