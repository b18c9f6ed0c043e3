"""Experiment trackers: Accelerate's, opened before the first step and called from a thread of their own."""
