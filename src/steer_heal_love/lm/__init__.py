"""The only code that touches a language model."""
