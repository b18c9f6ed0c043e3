"""TRL's reward functions as an environment. They import nothing from TRL, so they run unchanged."""
