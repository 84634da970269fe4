"""What the rivals without training reach on one model: the whole grid of them."""
