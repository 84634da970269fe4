"""Texts sampled from a model."""
