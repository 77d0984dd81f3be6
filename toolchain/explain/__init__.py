"""What a network looks for, where it looks, and what fools it."""
