"""Judges of open-ended answers behind one protocol: a reference answer, a reward model, a language model."""

from tailmark.evaluate.judges.base import Candidate, Contest, Judge, Verdict
from tailmark.evaluate.judges.opening import open_judges

__all__ = ["Candidate", "Contest", "Judge", "Verdict", "open_judges"]
