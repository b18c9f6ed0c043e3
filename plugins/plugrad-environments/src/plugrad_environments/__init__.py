"""Environments for tasks that exist already: datasets with rewards by name, and those of reasoning-gym and verifiers."""
