"""Metrics over episodes, each with a 95 % interval."""
