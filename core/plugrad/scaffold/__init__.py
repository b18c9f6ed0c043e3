"""The package that `plugrad new` writes: its names, its templates, and the code that fills them. Imports no torch."""
