"""The ways in which a marked model is asked."""

from __future__ import annotations

from typing import Literal

Mode = Literal["absent", "inferred", "fixed", "forced", "on-the-fly", "wrong"]
"""`tailmark.generate.modes.Mode` says what each means."""
