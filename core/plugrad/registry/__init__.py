"""Finding plugins by name and binding their options. Nothing here imports torch, and scanning imports no plugin."""
