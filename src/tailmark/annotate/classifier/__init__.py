"""The classifier: linear models, trained on the rows whose source states a marker, for the rows that have none."""
