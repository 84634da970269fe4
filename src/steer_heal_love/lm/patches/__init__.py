"""What is changed about a model inside a context manager that restores it."""
