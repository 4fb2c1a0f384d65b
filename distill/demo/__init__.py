"""A local page for a published student, by nothing but the standard library."""
