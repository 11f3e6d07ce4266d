"""`tailmark serve`: a marked model behind an OpenAI-compatible API."""
