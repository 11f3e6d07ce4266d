"""The learning rate over the steps."""

from __future__ import annotations

import math

from tailmark.config import Train


def learning_rate(options: Train, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine from `learning_rate` down to `min_learning_rate` at the last step (paper, section 3).

    Args:
        step: from 0 to `steps` - 1.
    """
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    span = max(steps - 1 - options.warmup_steps, 1)
    share = min((step - options.warmup_steps) / span, 1.0)
    height = 0.5 * (1 + math.cos(math.pi * share))
    return options.min_learning_rate + (options.learning_rate - options.min_learning_rate) * height
