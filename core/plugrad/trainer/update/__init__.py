"""The update of the policy: the models and the optimizer, and one step of them."""
