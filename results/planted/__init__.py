"""What a barrier sees of loops planted in texts, and which lets a student learn them."""
