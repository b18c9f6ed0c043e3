"""Samples: prompts and completions of a run that are written down and shown."""
