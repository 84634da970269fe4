"""The method's loop, and the pieces of work that it is made of."""
