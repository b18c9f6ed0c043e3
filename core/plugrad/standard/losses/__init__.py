"""Losses that come with plugrad."""
