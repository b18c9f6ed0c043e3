"""The defaults. They come through the same door as everybody's: entry points, in plugrad's own `pyproject.toml`."""
