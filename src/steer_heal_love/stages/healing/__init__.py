"""What the heal stage is made of: its texts and its trainer."""
