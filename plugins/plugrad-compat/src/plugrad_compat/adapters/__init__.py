"""Shared by all adapters: configs, registries, signatures, and converting a foreign scalar to plugrad's sums."""
