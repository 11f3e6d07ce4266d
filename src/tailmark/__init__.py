"""Fine-tune language models for the long tail of their data, with training-time markers."""

__version__ = "0.1.0"
