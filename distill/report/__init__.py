"""report.html: one page that tells a run, readable without a network, a script or this package."""
