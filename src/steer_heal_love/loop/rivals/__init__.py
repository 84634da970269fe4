"""Rivals that need no training: other ways to bring the trait about in the base model."""
