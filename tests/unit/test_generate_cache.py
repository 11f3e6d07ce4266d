"""Keys and values that grow in place: always what transformers' own layer holds, whatever is selected, cut or replaced between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer

from tailmark.generate.cache import _SPARE, GrowingLayer

Change = Callable[[DynamicLayer], None]


def grow(columns: int, seed: int) -> Change:
    def change(layer: DynamicLayer) -> None:
        rows = 3 if layer.keys is None else layer.keys.shape[0]
        numbers = torch.Generator().manual_seed(seed)
        layer.update(*(torch.randn((rows, 2, columns, width), generator=numbers) for width in (4, 5)))

    return change


def select(places: list[int]) -> Change:
    def change(layer: DynamicLayer) -> None:
        if layer.keys is not None:
            layer.batch_select_indices(torch.tensor(places) % layer.keys.shape[0])

    return change


def trim(columns: int) -> Change:
    def change(layer: DynamicLayer) -> None:
        if layer.keys is not None and layer.values is not None and layer.keys.shape[-2] > columns:
            layer.keys, layer.values = layer.keys[..., columns:, :], layer.values[..., columns:, :]

    return change


changes = st.one_of(
    st.builds(grow, st.integers(1, 3) | st.just(_SPARE + 5), st.integers(0, 9)),
    st.builds(select, st.lists(st.integers(0, 2), min_size=1, max_size=3)),
    st.builds(trim, st.integers(1, 4)),
)


@given(st.lists(changes, max_size=12))
def test_it_holds_what_the_layer_of_transformers_holds(history: list[Change]) -> None:
    mine, theirs = GrowingLayer(), DynamicLayer()
    for change in history:
        change(mine)
        change(theirs)
        assert mine.get_seq_length() == theirs.get_seq_length()
        if theirs.keys is not None:
            assert torch.equal(mine.keys, theirs.keys)
            assert torch.equal(mine.values, theirs.values)


def test_a_column_is_written_where_there_is_room() -> None:
    layer = GrowingLayer()
    grow(3, 0)(layer)
    assert layer.keys is not None
    place = layer.keys.data_ptr()
    for turn in range(_SPARE):
        grow(1, turn)(layer)
        assert layer.keys.data_ptr() == place
    grow(1, 0)(layer)
    assert layer.keys.data_ptr() != place
