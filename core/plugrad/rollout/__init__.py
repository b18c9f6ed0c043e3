"""Rollout engines: the sources of completions. `plugrad.config.engines` lists them."""
