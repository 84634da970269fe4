"""Rows that are rewound, dropped and joined go on as if they had been read alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.context import Context, Prefix, read_prefix, shared_prefix
from steer_heal_love.lm.tokens import pad_left, pad_right
from tiny import KINDS, SLIDING_WINDOW, random_ids, tiny_lm

LONG = SLIDING_WINDOW + 9


@pytest.fixture(params=KINDS)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny_lm(request.param)


@torch.inference_mode()
def read(lm: LanguageModel, rows: list[list[int]], prefix: Prefix | None = None) -> Context:
    prefix = prefix or Prefix()
    context = prefix.begin(lm, len(rows))
    batch = pad_left([row[prefix.length :] for row in rows], lm.pad_id, lm.device)
    context.read(lm, batch.ids, batch.positions + prefix.length, batch.mask)
    return context


@torch.inference_mode()
def check_goes_on(lm: LanguageModel, context: Context, rows: list[list[int]]) -> None:
    """Feed two more tokens to every row and compare with each row computed alone, uncached."""
    for token in (11, 12):
        positions = torch.tensor([[len(row)] for row in rows])
        found = context.read(lm, torch.full((len(rows), 1), token), positions)[:, -1]
        rows = [[*row, token] for row in rows]
        alone = [lm.decoder(input_ids=torch.tensor([row])).last_hidden_state[0, -1] for row in rows]
        torch.testing.assert_close(found, torch.stack(alone), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_rewound_row_goes_on_as_if_the_rest_had_never_been(lm: LanguageModel) -> None:
    rows = random_ids(LONG, 7, LONG - 2, 12)
    context = read(lm, rows)
    back = (3, 7, 0, 1)
    for index, columns in enumerate(back):
        context.rewind(index, columns)
    check_goes_on(lm, context, [r[: len(r) - n] for r, n in zip(rows, back, strict=True)])


@torch.inference_mode()
def test_padding_on_the_right_is_rewound(lm: LanguageModel) -> None:
    rows, more = random_ids(LONG, 5), random_ids(6, 2, seed=5)
    context = read(lm, rows)
    batch = pad_right(more, lm.pad_id, lm.device)
    start = torch.tensor([[len(row)] for row in rows])
    states = context.read(lm, batch.ids, start + torch.arange(6), batch.mask)
    whole = [a + b for a, b in zip(rows, more, strict=True)]
    for index, (row, new) in enumerate(zip(whole, more, strict=True)):
        alone = lm.decoder(input_ids=torch.tensor([row])).last_hidden_state[0, -len(new) :]
        torch.testing.assert_close(states[index, : len(new)], alone, rtol=1e-4, atol=1e-4)
    context.rewind(1, 4)
    check_goes_on(lm, context, whole)


@torch.inference_mode()
def test_rewound_rows_are_kept_copied_and_joined(lm: LanguageModel) -> None:
    rows, others = random_ids(LONG, 7, 12), random_ids(SLIDING_WINDOW + 2, 3, seed=5)
    context, other = read(lm, rows), read(lm, others)
    context.rewind(0, 5)
    copy = context.copy_of(torch.tensor([0, 2]))
    context.keep(torch.tensor([2, 0]))
    assert context.mask.shape[1] == LONG - 5  # columns that nothing needs any more go
    other.rewind(0, 9)
    context.join(other)
    check_goes_on(lm, context, [rows[2], rows[0][:-5], others[0][:-9], others[1]])
    check_goes_on(lm, copy, [rows[0][:-5], rows[2]])


@torch.inference_mode()
def test_a_prefix_is_read_once_for_all_rows() -> None:
    lm = tiny_lm()
    (start,) = random_ids(10, seed=7)
    rows = [start + row for row in random_ids(4, 9, 1)]
    assert shared_prefix(rows) == 10
    prefix = read_prefix(lm, start)
    assert prefix.length == 10
    check_goes_on(lm, read(lm, rows, prefix), rows)
    check_goes_on(lm, read(lm, rows, prefix), rows)  # the first context left it as it was


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        ([[5] * 9, [5] * 9], 8),  # each keeps a token of its own
        ([[5] * 8, [5] * 9], 0),
        ([[5] * 20], 0),
        ([[5] * 20, [6] * 20], 0),
    ],
)
def test_a_prefix_that_is_not_worth_it(rows: list[list[int]], length: int) -> None:
    assert shared_prefix(rows) == length


@torch.inference_mode()
def test_no_prefix() -> None:
    lm = tiny_lm()
    context: Context = read_prefix(lm, []).begin(lm, 2)
    mask: Tensor = context.mask
    assert mask.shape == (2, 0)
    check_goes_on(lm, read(lm, random_ids(3, 5), read_prefix(lm, [])), random_ids(3, 5))
