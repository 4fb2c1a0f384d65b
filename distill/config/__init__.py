"""The schema of a recipe, and reading one."""
