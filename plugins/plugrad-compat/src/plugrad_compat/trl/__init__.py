"""TRL: its reward functions as an environment. They import nothing of TRL's, so that none of their lines change."""
