"""Annotation by a language model behind an OpenAI-compatible endpoint: asked for what no other evidence says, never paid twice."""

from tailmark.annotate.llm.annotator import LLMAnnotator
from tailmark.annotate.llm.estimate import Estimate

__all__ = ["Estimate", "LLMAnnotator"]
