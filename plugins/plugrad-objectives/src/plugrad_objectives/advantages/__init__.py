"""The advantages, one file each."""
