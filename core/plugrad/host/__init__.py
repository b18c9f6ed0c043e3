"""The host: calls plugins and checks their results. Between the registry and the trainer."""
