"""The tab that asks what the model makes of a report: an edited report, a redrawn region, ignored words."""
