"""The run files of `plugrad quickstart`, to be read and copied."""
