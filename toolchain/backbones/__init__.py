"""Networks that are fine-tuned: what is known of each, and how one is built."""
