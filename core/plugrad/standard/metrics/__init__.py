"""Metrics that come with plugrad."""
