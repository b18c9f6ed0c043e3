"""Run losses again on a captured batch, without model, engine or accelerator, and see what they do to each token."""
