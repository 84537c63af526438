"""What a network costs, and which width gives it a wanted size."""
