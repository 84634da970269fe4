"""What a model makes of given texts."""
