"""The benchmarks of `evaluate.benchmarks`: one interface (`base`), one module a kind, one run (`runner`)."""
