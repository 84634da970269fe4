"""A model loaded and described."""
