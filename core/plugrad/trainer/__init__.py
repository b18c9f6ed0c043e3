"""The trainer: the loop and the step, on Accelerate."""
