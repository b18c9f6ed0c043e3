"""Rollout engines: the sources of completions. `plugrad.config.engine_kinds` lists them."""
