"""Stage `validate`: the annotated rows must be what the taxonomy and the config say; a Great Expectations suite made from both."""
