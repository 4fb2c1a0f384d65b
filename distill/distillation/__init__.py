"""The method: targets, projections, losses."""
