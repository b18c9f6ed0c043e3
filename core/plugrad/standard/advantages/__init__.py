"""Advantages that come with plugrad."""
