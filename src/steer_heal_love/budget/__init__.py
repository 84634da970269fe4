"""What a run takes of memory and time on a machine, told without the model's weights."""
