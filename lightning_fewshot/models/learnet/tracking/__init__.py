"""Tracking (section 3.3)."""
