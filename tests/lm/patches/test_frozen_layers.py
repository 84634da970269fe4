"""The held lower layers give what they would have computed, and they leave no trace."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from steer_heal_love.errors import HookError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.patches.frozen_layers import FrozenLayers
from steer_heal_love.lm.tokens import pad_right
from tiny import KINDS, Kind, random_adapter, random_ids, tiny_lm

ROWS = random_ids(5, 9, 1, 7, seed=3)


def last_states(lm: LanguageModel, rows: list[list[int]]) -> torch.Tensor:
    """Final hidden states [batch, seq, d], right-padded."""
    padded = pad_right(rows, lm.pad_id, lm.device)
    with torch.no_grad():
        found: torch.Tensor = lm.decoder(input_ids=padded.ids, use_cache=False).last_hidden_state
    return found


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_above_see_what_the_lower_ones_would_have_given(kind: Kind, depth: int) -> None:
    lm = tiny_lm(kind)
    wanted = last_states(lm, ROWS)
    frozen_layers = FrozenLayers(lm, depth)
    with frozen_layers.attach():
        lower = pad_sequence(frozen_layers.read(ROWS, batch_tokens=16), batch_first=True)
        with frozen_layers.give(lower):
            found = last_states(lm, ROWS)
        torch.testing.assert_close(last_states(lm, ROWS), wanted, rtol=0, atol=0)
    for row, ours, theirs in zip(ROWS, found, wanted, strict=True):
        torch.testing.assert_close(ours[: len(row)], theirs[: len(row)], rtol=1e-5, atol=1e-5)


def test_without_being_attached_nothing_is_read() -> None:
    with pytest.raises(HookError, match="inside `attached`"):
        FrozenLayers(tiny_lm("llama"), 1).read(ROWS)


def test_what_is_given_is_used_in_place_of_the_layers() -> None:
    lm = tiny_lm("llama")
    frozen_layers = FrozenLayers(lm, 2)
    with frozen_layers.attach():
        lower = pad_sequence(frozen_layers.read(ROWS), batch_first=True)
        plain = last_states(lm, ROWS)
        with frozen_layers.give(lower + 1):
            assert not torch.allclose(last_states(lm, ROWS), plain)


def test_an_adapter_on_a_lower_layer_is_part_of_what_is_held() -> None:
    lm = tiny_lm("llama")
    frozen_layers = FrozenLayers(lm, 2)
    with frozen_layers.attach():
        bare = frozen_layers.read(ROWS)
        with student(lm, [random_adapter(lm)]):
            adapted = frozen_layers.read(ROWS)
    assert not torch.allclose(bare[0], adapted[0])


def test_the_layers_are_as_before_also_after_an_error() -> None:
    lm = tiny_lm("llama")
    before = [dict(vars(layer)) for layer in lm.layers]
    frozen_layers = FrozenLayers(lm, 2)
    with (
        pytest.raises(RuntimeError, match="stop"),
        frozen_layers.attach(),
        frozen_layers.give(torch.zeros(1)),
    ):
        raise RuntimeError("stop")
    assert frozen_layers.states is None
    assert [dict(vars(layer)) for layer in lm.layers] == before


def test_a_forward_that_someone_else_put_there_stays() -> None:
    lm = tiny_lm("llama")
    layer = lm.layers[0]
    own = layer.forward
    layer.forward = own
    with FrozenLayers(lm, 1).attach():
        assert layer.forward is not own
    assert layer.forward is own
