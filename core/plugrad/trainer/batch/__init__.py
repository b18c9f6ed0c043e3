"""From examples to micro-batches: the order of the data, sampling, and the cut."""
