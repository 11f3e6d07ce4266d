"""Fine-tuning: one arm, with DeepSpeed, from the beginning or from where it was interrupted."""
