"""Rewards by name, and the user's own reward functions."""
