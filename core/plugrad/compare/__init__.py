"""A comparison: the same run with one thing different, over several seeds. Each run is a process of its own."""
