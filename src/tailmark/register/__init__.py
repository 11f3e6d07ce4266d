"""Stage `register`: the marked model with its evidence and card as one version in MLflow's registry."""
