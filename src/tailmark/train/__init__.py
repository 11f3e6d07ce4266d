"""TODO-owner: say what this package is for."""
