"""Training: linear probe, fine-tuning, metrics, the run folder."""
