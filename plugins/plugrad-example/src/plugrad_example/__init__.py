"""A loss, an advantage and a metric, one file each: the smallest package of plugrad plugins, made to be copied.

Nothing is imported or registered here: the entry points in `pyproject.toml` name the functions.
"""
