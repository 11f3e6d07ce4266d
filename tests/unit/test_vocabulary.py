"""The rows of added tokens: where they start, and that nothing else of a frozen vocabulary moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tailmark.base.tiny import tiny_model, tiny_tokenizer
from tailmark.chat import marker_template
from tailmark.chat.vocabulary import Sources, add_marker_tokens, extend_vocabulary, marker_sources, train_rows
from tailmark.taxonomy import compact_tokens

VALUES = {"domain": ("Code", "Culture"), "length_tokens": ()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return marker_sources(saved(tmp_path_factory.mktemp("compact"), compact=True))


def saved(folder: Path, *, compact: bool) -> Path:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = marker_template(tokenizer.chat_template, compact=VALUES if compact else None)
    if compact:
        add_marker_tokens(tokenizer, VALUES)
    tokenizer.save_pretrained(folder)
    return folder


def model(*, tied: bool) -> Any:
    made = tiny_model(tiny_tokenizer(), 1).float()
    if not tied:
        made.config.tie_word_embeddings = False
        made.lm_head.weight = torch.nn.Parameter(torch.randn_like(made.lm_head.weight))
    return made


def matrices(made: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return made.get_input_embeddings().weight.detach().clone(), made.get_output_embeddings().weight.detach().clone()


@pytest.mark.parametrize("tied", [True, False])
def test_rows_start_as_the_mean_of_what_they_stand_for(sources: Sources, tied: bool) -> None:
    made = model(tied=tied)
    before = matrices(made)
    extend_vocabulary(made, sources)
    after = matrices(made)
    assert made.config.vocab_size == len(before[0]) + len(compact_tokens(VALUES)) == len(after[0])
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[: len(old)], old)
        for row, parts in sources.items():
            torch.testing.assert_close(new[row], old[list(parts)].mean(0))
    tokenizer = tiny_tokenizer()
    assert "Culture" in {tokenizer.decode(list(parts)) for parts in sources.values()}
    assert (made.get_input_embeddings().weight is made.get_output_embeddings().weight) == tied


def test_a_text_rendering_adds_nothing(tmp_path: Path) -> None:
    assert marker_sources(saved(tmp_path, compact=False)) == {}
    made = model(tied=True)
    before = matrices(made)
    extend_vocabulary(made, {})
    train_rows(made, {}, through_layers=True)
    assert torch.equal(matrices(made)[0], before[0])


def test_padding_rows_that_a_model_has_are_used(sources: Sources) -> None:
    made = model(tied=True)
    made.resize_token_embeddings(1024, mean_resizing=False)
    extend_vocabulary(made, sources)
    assert made.get_input_embeddings().weight.shape[0] == 1024


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("through_layers", [True, False])
def test_of_a_frozen_vocabulary_only_the_new_rows_learn(sources: Sources, tied: bool, through_layers: bool) -> None:
    made = model(tied=tied)
    extend_vocabulary(made, sources)
    made.requires_grad_(False)
    train_rows(made, sources, through_layers=through_layers)
    before = matrices(made)
    trained = [parameter for parameter in made.parameters() if parameter.requires_grad]
    assert all(parameter.decays is False for parameter in trained)
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.0)
    rows = sorted(sources)
    ids = torch.tensor([[5, 6, *rows, 7]])
    made(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    for number, (old, new) in enumerate(zip(before, matrices(made), strict=True)):
        changed = (old != new).any(1).nonzero().flatten().tolist()
        assert changed == ([] if number == 0 and not tied and not through_layers else rows)
