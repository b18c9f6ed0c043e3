"""Environments for tasks that exist already: datasets with rewards by name, and the tasks of reasoning-gym."""
