"""The extensions, one file each."""
