"""Stage `evaluate`: the marked model against its baseline on held-out rows, with intervals, slices and a report."""
