"""The policy: models, log-probs, micro-batches and the weights of the objective."""
