"""Rollout engines: where completions come from."""
