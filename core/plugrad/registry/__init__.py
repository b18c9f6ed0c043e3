"""Find plugins by name and bind their options. Nothing here imports torch, and scanning imports no plugin."""
