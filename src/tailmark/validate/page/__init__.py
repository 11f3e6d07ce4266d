"""The page a person looks at: what the data hold, where it came from, what left, and which expectations failed."""
