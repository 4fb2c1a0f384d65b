"""A published student in use: on pictures, on video, and behind a page."""
