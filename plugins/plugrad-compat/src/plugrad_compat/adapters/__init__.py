"""What the adapters of all systems share: configs, registries, signatures, and the way from their scalar to our sum."""
