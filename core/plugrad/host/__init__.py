"""The host: calls plugins, checks what they return, and hands it on in one form. Between the registry and the trainer."""
