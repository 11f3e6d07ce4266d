"""What requests take, and the budget that stops them before it is overrun."""

from __future__ import annotations

from dataclasses import dataclass, field

from tailmark.config import Endpoint
from tailmark.errors import BudgetExceeded

_MILLION = 1_000_000
_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4


@dataclass(frozen=True)
class Usage:
    """Requests sent, tokens of their prompts, tokens of their answers."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.input_tokens + self.output_tokens

    def cost(self, options: Endpoint) -> float:
        """Money, at the prices of the options."""
        return (self.input_tokens * options.input_price + self.output_tokens * options.output_price) / _MILLION

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.requests + other.requests, self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.requests - other.requests, self.input_tokens - other.input_tokens, self.output_tokens - other.output_tokens)

    def times(self, factor: float) -> Usage:
        """The usage of `factor` times as much."""
        return Usage(round(self.requests * factor), round(self.input_tokens * factor), round(self.output_tokens * factor))

    def told(self, options: Endpoint) -> str:
        """`1,200 requests, 640,000 tokens in, 3,600 tokens out`, with the cost where there are prices."""
        text = f"{self.requests:,} requests, {self.input_tokens:,} tokens in, {self.output_tokens:,} tokens out"
        return f"{text}, cost {self.cost(options):,.4g}" if options.input_price or options.output_price else text


def estimated_tokens(texts: list[str]) -> int:
    """About how many tokens the messages of a request have: a quarter of their UTF-8 bytes, and four for each message.

    English has about 4 bytes a token in current vocabularies, Russian about 5, Chinese about 4.
    """
    return sum(len(text.encode()) // _BYTES_PER_TOKEN + _TOKENS_PER_MESSAGE for text in texts)


@dataclass
class Budget:
    """Lets a request go only where what is spent, what is under way and the request itself stay within the limits.

    Attributes:
        place: the option that the limits stand in, e.g. `annotate.llm`.
    """

    options: Endpoint
    spent: Usage
    place: str
    _under_way: Usage = field(default_factory=Usage)

    def reserve(self, most: Usage) -> None:
        """Set aside what a request takes at most.

        Raises:
            BudgetExceeded: a limit does not allow for it.
        """
        total = self.spent + self._under_way + most
        for name, value in (("max_requests", total.requests), ("max_tokens", total.tokens), ("max_cost", total.cost(self.options))):
            limit = getattr(self.options, name)
            if limit is not None and value > limit:
                raise self._exceeded(name, limit)
        self._under_way += most

    def settle(self, reserved: Usage, actual: Usage) -> None:
        """Put what the request took in place of what was set aside for it."""
        self._under_way -= reserved
        self.spent += actual

    def _exceeded(self, name: str, limit: float) -> BudgetExceeded:
        return BudgetExceeded(
            f"The budget of the LLM is used up: {name} is {limit:,}, and so far it took {self.spent.told(self.options)}.",
            where=f"params.yaml: {self.place}.{name}",
            fix=f"every answer so far is kept and is not paid for again: raise `{self.place}.{name}` and run the same command again",
        )
