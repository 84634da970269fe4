"""What is said of planted loops, on measurements that were made up, against naive reckoning."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any

import pytest
import torch
from results.planted.students import look
from results.planted.tables import SORTS, gains, learnt_block, matched_taus, seen_block

from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.maths.divergence import divergence_per_position
from steer_heal_love.stages.heal import Example
from tiny import random_adapter, random_ids, tiny_lm

AGGREGATES = ("mean", "rmse", "p95", "max")


def measured(scale: float = 1.0) -> dict[str, Any]:
    """A student whose D is a multiple of the text's number."""
    divergence = {
        name: {sort: [scale * (k + i) for i in range(5)] for k, sort in enumerate(SORTS)}
        for name in AGGREGATES
    }
    repeats = [[-2.0 * scale, -1.0 * scale], [-4.0 * scale, -3.0 * scale]]
    return {"divergence": divergence, "repeats": repeats}


def file_of(*students: tuple[str, float, float]) -> dict[str, Any]:
    """As planted.json: of each student its barrier, its τ, and the scale of its figures."""
    return {
        **{"model": "made-up", "texts": 5, "share": 0.25, "kinds": [], "tau": 1.0},
        **{"default_tau": 2.0, "base": [measured(), measured()]},
        "students": [
            {"barrier": barrier, "tau": tau, "seeds": [measured(scale), measured(scale)]}
            for barrier, tau, scale in students
        ],
    }


def cells(block: str, start: str) -> list[str]:
    (line,) = [line for line in block.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.split("|")][1:-1]


def test_an_aggregate_sees_a_loop_where_d_exceeds_tau() -> None:
    found = file_of(("none", 1.0, 0.5), ("rmse", 1.0, 0.2))
    block = seen_block(found)
    assert "| over τ = 1 | over τ = 2 |" in block
    values, clean = ([0.5 * (k + i) for i in range(5)] * 2 for k in (1, 0))
    row = cells(block, "| rmse | loop inside")
    assert row[2].startswith(f"{median(values):.2f} (")
    assert row[3].startswith(f"{100 * fmean(v > 1.0 for v in values):.0f} % (")
    assert row[4].startswith(f"{100 * fmean(v > 2.0 for v in values):.0f} % (")
    wins = [1.0 if v > c else 0.5 if v == c else 0.0 for v in values for c in clean]
    assert row[5].startswith(f"{100 * fmean(wins):.0f} % (")
    assert cells(block, "| rmse | no loop")[5] == ""


def test_students_are_held_against_base_and_the_rmse() -> None:
    block = learnt_block(file_of(("none", 1.0, 2.0), ("rmse", 1.0, 1.5), ("mean", 0.7, 2.0)))
    assert cells(block, "| none |")[1] == ""
    row = cells(block, "| mean | 0.7")
    assert row[6].startswith(f"−{-fmean([-1.0, -3.0]):.2f} (")
    assert row[7].startswith(f"−{0.5 * fmean([1.0, 3.0]):.2f} (")
    assert row[5].startswith(f"−{-fmean([-2.0, -4.0]):.2f} (")
    assert cells(block, "| rmse |")[7] == ""


def test_a_loop_without_so_many_repeats_is_left_out() -> None:
    short = {"repeats": [[-1.0], [-1.0, -2.0]]}
    assert gains([short], [short], 2) == [0.0]


def test_a_matched_tau_is_as_strong_where_no_loop_is() -> None:
    """Under τ the same share of each aggregate's median, whatever they are on texts with loops."""
    found = [measured(0.1 * (seed + 1)) for seed in range(2)]
    for f in found:
        f["divergence"]["mean"] = {
            k: [v / 2 for v in d] for k, d in f["divergence"]["mean"].items()
        }
        f["divergence"]["max"]["inside"] = [99.0] * 5
    assert matched_taus(found, 0.4) == {"mean": 0.2, "p95": 0.4, "max": 0.4}
    for f in found:
        f["divergence"]["rmse"]["clean"] = [0.0] * 5
    with pytest.raises(ValueError, match="nothing to match"):
        matched_taus(found, 0.4)


def test_what_is_looked_at_is_what_the_whole_logits_say() -> None:
    """Against transformers' own forward pass and the plain reckoning of the divergence."""
    lm = tiny_lm()
    prompts, completions = random_ids(5, 9, seed=1), random_ids(12, 7, seed=2)
    examples = [Example(tuple(p), tuple(c)) for p, c in zip(prompts, completions, strict=True)]

    def logits(example: Example) -> torch.Tensor:
        ids = torch.tensor([[*example.prompt, *example.completion]])
        with torch.no_grad():
            found = lm.model(input_ids=ids).logits[0]
        return found[len(example.prompt) - 1 : -1]

    before = [logits(example) for example in examples]
    assert all(max(kl) < 1e-5 for _, kl in look(lm, examples))
    with student(lm, [random_adapter(lm)]):
        after, sights = [logits(example) for example in examples], look(lm, examples)
    for example, x, y, (nll, kl) in zip(examples, after, before, sights, strict=True):
        assert kl == pytest.approx(divergence_per_position(x, y, "reverse").tolist(), abs=1e-4)
        rows = x.log_softmax(-1).gather(1, torch.tensor(example.completion)[:, None])[:, 0]
        assert nll == pytest.approx((-rows).tolist(), abs=1e-4)
    assert look(lm, []) == []
