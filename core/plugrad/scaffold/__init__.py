"""The package that `plugrad new` writes: its names, its templates, and how they become a folder. Imports no torch."""
