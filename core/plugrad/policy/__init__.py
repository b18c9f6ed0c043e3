"""The policy: models, log-probs, micro-batches and reductions."""
