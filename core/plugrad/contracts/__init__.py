"""What a plugin receives and what it returns. Import these names from `plugrad`, not from here."""
