"""Stage 1: sources to canonical records, without duplicates, split, with a quarantine for what cannot be used."""
