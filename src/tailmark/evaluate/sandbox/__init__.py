"""Runs programs that nobody has read: no network, no files but its own and the tools', bounded time, memory, processes and disk."""

from tailmark.evaluate.sandbox.run import NAMESPACES, RLIMITS, Isolation, Limits, Outcome, Step, python, ready, run

__all__ = ["NAMESPACES", "RLIMITS", "Isolation", "Limits", "Outcome", "Step", "python", "ready", "run"]
