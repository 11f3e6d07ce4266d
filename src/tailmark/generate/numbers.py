"""How a number is written in a marker list, letter by letter, so that what is written is in range and the only way to write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from tailmark.taxonomy import MarkerSpec

_DECIMALS = 6
"""Most decimals of a real number."""

_DIGITS = 15
"""Most digits of a number: as many as a double keeps, so that a real reads back as it was written."""

_INTEGER = re.compile(r"-?(0|[1-9]\d*)?")
_REAL = re.compile(r"-?((0|[1-9]\d*)(\.\d*)?)?")
_SMALLEST_REAL = Decimal("1e-4")
"""Python writes smaller ones with an exponent."""


@dataclass(frozen=True)
class NumberForm:
    """The numbers that a marker can have, as texts.

    Attributes:
        real: with a point and at least one decimal; else whole.
        low, high: the range, both ends included.
        digits: least digits of a whole number that is not negative.
    """

    real: bool
    low: Decimal
    high: Decimal
    digits: int = 0

    @classmethod
    def of(cls, spec: MarkerSpec, digits: int = 0) -> NumberForm:
        """The form of an integer or real marker; `digits`: least digits of a whole number."""
        most = Decimal(10) ** _DIGITS - 1
        low = -most if spec.minimum is None else max(-most, Decimal(str(spec.minimum)))
        high = most if spec.maximum is None else min(most, Decimal(str(spec.maximum)))
        return cls(spec.kind == "real", low, high, 0 if spec.kind == "real" else digits)

    def complete(self, text: str) -> bool:
        """Whether the text is a number of this form, in the one way it is written."""
        if not self._possible(text) or not text[-1:].isdigit() or (text.startswith("-0") and not Decimal(text)):
            return False
        if len(text) < self._least(text):
            return False
        if self.real and ("." not in text or (text.endswith("0") and not text.endswith(".0"))):
            return False
        number = Decimal(text)
        return self.low <= number <= self.high and not (self.real and 0 < abs(number) < _SMALLEST_REAL)

    def may_begin(self, text: str) -> bool:
        """Whether some number of this form begins with the text (or is it)."""
        if not self._possible(text):
            return False
        return self.complete(text) or any(low <= self.high and self.low <= high for low, high in self._continued(text))

    def _possible(self, text: str) -> bool:
        whole, _, decimals = text.removeprefix("-").partition(".")
        form = _REAL if self.real else _INTEGER
        padded = text.isdecimal() and len(text) <= self.digits
        return (padded or form.fullmatch(text) is not None) and len(decimals) <= _DECIMALS and len(whole) + len(decimals) <= _DIGITS

    def _least(self, text: str) -> int:
        """The least digits of a number that begins with the text."""
        return 0 if text.startswith("-") else self.digits

    def _continued(self, text: str) -> list[tuple[Decimal, Decimal]]:
        """Ranges of the numbers that begin with the text and go on."""
        sign = -1 if text.startswith("-") else 1
        whole, point, decimals = text.removeprefix("-").partition(".")
        spans: list[tuple[Decimal, Decimal]] = []
        if point:
            left = min(_DECIMALS - len(decimals), _DIGITS - len(whole) - len(decimals))
            spans += _last_digit_not_zero(Decimal(f"{whole}.{decimals or 0}"), len(decimals), left, empty=not decimals)
        elif not whole:
            spans.append((Decimal(0), Decimal(10) ** _DIGITS))
        else:
            if self.real and len(whole) < _DIGITS:
                spans.append((Decimal(whole), Decimal(whole) + 1 - Decimal(10) ** -min(_DECIMALS, _DIGITS - len(whole))))
            fewest = max(1, self._least(text) - len(whole))
            most = fewest if whole.startswith("0") else _DIGITS - len(whole)
            if not whole.startswith("0") or len(whole) < self._least(text):
                spans += [
                    (Decimal(whole) * 10**more, (Decimal(whole) + 1) * 10**more - (0 if self.real else 1))
                    for more in range(fewest, most + 1)
                ]
        if sign > 0:
            return spans
        least = _SMALLEST_REAL if self.real else Decimal(1)  # zero has no sign
        return [(-high, -max(low, least)) for low, high in spans if high >= least]


def _last_digit_not_zero(value: Decimal, decimals: int, left: int, *, empty: bool) -> list[tuple[Decimal, Decimal]]:
    """What `left` more decimals can make of a number: up to all nines, from the smallest that does not end in zero (`.0` excepted)."""
    if left <= 0:
        return []
    unit = Decimal(10) ** -(decimals + left)
    low = value if empty else max(value + unit, _SMALLEST_REAL)
    return [(low, value + Decimal(10) ** -decimals - unit)]
