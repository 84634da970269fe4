"""The run directory: written, read, watched."""
