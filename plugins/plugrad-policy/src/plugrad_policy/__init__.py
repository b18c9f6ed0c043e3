"""Losses, advantages, metrics and extensions from the papers: one file each, named as its paper names it."""
