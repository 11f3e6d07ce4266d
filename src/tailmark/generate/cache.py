"""Keys and values that grow in place.

transformers' own cache is copied whole for every token: with 32 rows of 300 tokens a step of SmolLM2-135M then takes 1.6 times as long on a
CPU (`benchmarks/cache.py`). Here a column is written into room that was set aside, and a copy is made once in `_SPARE` columns.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

_SPARE = 64
"""Columns set aside when the room is full."""


class GrowingLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, columns, width) each: views of the columns in use of larger tensors.

    Whoever selects, cuts or replaces `keys` and `values` need not know: what is not the view handed out last is copied into new room.
    """

    keys: torch.Tensor | None
    values: torch.Tensor | None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._rooms: list[torch.Tensor] = []
        self._shown: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add columns; returns all keys and all values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        end = used + key_states.shape[-2]
        if not self._has_room(end):
            self._rooms = [_room(old, new, used, end) for old, new in ((self.keys, key_states), (self.values, value_states))]
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[..., used:end, :] = new
        keys, values = self._rooms[0][..., :end, :], self._rooms[1][..., :end, :]
        self.keys, self.values = self._shown = keys, values
        return keys, values

    def _has_room(self, end: int) -> bool:
        own = self.keys is self._shown[0] and self.values is self._shown[1]
        return own and bool(self._rooms) and end <= self._rooms[0].shape[-2]


def _room(old: torch.Tensor | None, new: torch.Tensor, used: int, end: int) -> torch.Tensor:
    """A tensor with room for `end` columns and some more, the `used` old ones in it."""
    room = new.new_empty((*new.shape[:-2], end + _SPARE, new.shape[-1]))
    if old is not None and used:
        room[..., :used, :] = old
    return room


def growing_cache() -> Cache:
    """An empty cache for a model whose every layer attends to all that came before."""
    return Cache(layer_class_to_replicate=GrowingLayer)
