"""Environments that come with plugrad."""
