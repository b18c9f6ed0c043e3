"""What the code says about itself, as Markdown: one module for each part of the reference."""
