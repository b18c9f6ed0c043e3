"""The tables of a run file, one file each: every key with its type, default and meaning."""
