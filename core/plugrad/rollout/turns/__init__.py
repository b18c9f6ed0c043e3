"""Rollouts of several turns: an environment plays with the policy."""
