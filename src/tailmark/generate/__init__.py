"""Marker-aware generation with a trained model; a library that `evaluate` shares, and the command `tailmark generate`."""
