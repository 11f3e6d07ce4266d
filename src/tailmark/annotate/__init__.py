"""Stage `annotate`: gives every row its markers, each with the kind of evidence it comes from."""
