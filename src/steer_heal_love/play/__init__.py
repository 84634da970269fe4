"""Talk to a run: one loaded model that answers as base, prompted, steered and healed."""
