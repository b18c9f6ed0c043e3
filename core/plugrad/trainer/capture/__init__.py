"""Captures: the batch of a step, as its losses saw it, kept for `plugrad replay`."""
