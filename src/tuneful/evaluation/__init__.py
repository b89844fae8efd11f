"""Measuring: quality against baselines, generalisation, forgetting, and the report of it all."""
