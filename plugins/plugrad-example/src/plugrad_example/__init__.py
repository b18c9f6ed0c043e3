"""A loss, an advantage and a metric, one file each: the smallest package of plugrad plugins, meant to be copied.

This file imports and registers nothing. The entry points in `pyproject.toml` name the functions.
"""
