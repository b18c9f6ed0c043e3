"""A comparison: variants of one run file over several seeds. Each run is its own process."""
