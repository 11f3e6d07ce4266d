"""Tasks: thin wrappers that run one stage through DVC and publish what it made."""
