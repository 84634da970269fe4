"""The public interface: what it is, that it waits for nothing, and that its examples run."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import steer_heal_love as shl
from example_place import finished_run, place
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.reading.score import completion_logprobs
from steer_heal_love.lm.sampler.generate import Sampling, generate
from steer_heal_love.records import Adapter, Healed
from steer_heal_love.run_config import GenerateConfig
from steer_heal_love.stages.heal import HealConfig
from tiny import tiny_lm

__all__ = ["finished_run", "place"]

WITHOUT_EXAMPLE = {"RunConfig", "SteerHealLoveError", "__version__"}
FUNCTIONS = sorted(set(shl.__all__) - WITHOUT_EXAMPLE)
SHORT = GenerateConfig(max_new_tokens=8)
TEXTS = [("How are you?", "Very well, and glad that you ask!"), ("Bye.", "Take care, friend.")]


@pytest.fixture
def lm() -> LanguageModel:
    return tiny_lm()


def test_every_name_is_where_it_is_said_to_be() -> None:
    assert sorted(shl.__all__) == sorted({*shl._HOMES, "__version__"})
    assert dir(shl) == sorted(shl.__all__)
    for name, home in shl._HOMES.items():
        module = importlib.import_module(f"steer_heal_love.{home}")
        assert getattr(shl, name) is getattr(module, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = shl.nothing  # type: ignore[attr-defined]


def test_to_import_the_package_waits_for_nothing() -> None:
    code = (
        "import sys, steer_heal_love\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_its_example_runs(name: str, place: Path) -> None:
    text = getattr(shl, name).__doc__
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert example.examples, f"the docstring of {name} has no example"
    found: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=found.append)
    assert not failed, "".join(found)


def test_answers_are_the_samplers(lm: LanguageModel) -> None:
    prompts = ["Do you care?", "Tell me."]
    found = shl.answer(lm, prompts, SHORT, seed=7)
    expected = generate(
        lm, [encode_chat(lm, p) for p in prompts], Sampling(8, 1.0, 64, 0.95), seed=7
    )
    assert [c.token_ids for c in found] == [g.token_ids for g in expected]
    assert [c.prompt for c in found] == prompts
    assert {c.kappa for c in found} == {0.0}
    assert shl.answer(lm, prompts, SHORT, seed=7) == found


def test_an_answer_knows_the_dose_that_it_was_given_under(lm: LanguageModel) -> None:
    direction = shl.extract_direction(lm, shl.load_axis("love"), shl.load_contexts()[:4])
    with shl.steering(lm, direction, 1.5):
        [steered] = shl.answer(lm, ["Do you care?"], SHORT)
        with shl.base(lm):
            [plain] = shl.answer(lm, ["Do you care?"], SHORT)
    assert (steered.kappa, plain.kappa) == (1.5, 0.0)
    assert plain == shl.answer(lm, ["Do you care?"], SHORT)[0]


def test_limits_come_from_the_bare_model(lm: LanguageModel) -> None:
    axis = replace(shl.load_axis("love"), probes=("Do you care?", "Tell me."))
    alone = shl.measure_limits(lm, axis)
    direction = shl.extract_direction(lm, axis, shl.load_contexts()[:4])
    with shl.steering(lm, direction, 3.0, must_fire=False):
        assert shl.measure_limits(lm, axis) == alone


def test_pairs_and_answers_are_filtered_alike(lm: LanguageModel) -> None:
    axis = shl.load_axis("love")
    limits = shl.measure_limits(lm, axis, axis.probes[:2])
    loop = ("Hi.", "so so so so so so so so so so so so so so so so")
    from_pairs = shl.filter_texts(lm, axis, [*TEXTS, loop], limits)
    assert "loop" in from_pairs[2].reasons
    assert all(j.completion.ended for j in from_pairs)
    again = shl.filter_texts(lm, axis, [j.completion for j in from_pairs], limits)
    assert again == from_pairs


def test_a_heal_makes_its_texts_likelier_and_leaves_the_model_alone(lm: LanguageModel) -> None:
    prompts = [encode_chat(lm, prompt) for prompt, _ in TEXTS]
    answers = [encode_text(lm, answer) for _, answer in TEXTS]

    def likelihood() -> float:
        return sum(float(row.mean()) for row in completion_logprobs(lm, prompts, answers))

    before = likelihood()
    config = HealConfig(epochs=8, learning_rate=1e-2, lam=0.0, validation_share=0.0)
    healed = shl.heal(lm, TEXTS, config, contexts=shl.load_contexts()[:4])
    assert likelihood() == before
    with shl.student(lm, [healed.adapter]):
        assert likelihood() > before + 0.1


def test_the_end_is_learnt_where_there_was_one(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def look(_lm: LanguageModel, examples: list[Any], *_: Any, **__: Any) -> Healed:
        seen.extend(examples)
        return Healed(Adapter({}, {}), (), ())

    monkeypatch.setattr("steer_heal_love.stages.heal.heal", look)
    [cut] = shl.answer(lm, ["Do you care?"], GenerateConfig(max_new_tokens=8), seed=3)
    shl.heal(lm, [TEXTS[0], replace(cut, end_id=None)])
    assert seen[0].completion[-1] == lm.tokenizer.eos_token_id
    assert seen[1].completion == cut.token_ids


def test_a_heal_is_held_to_the_base_by_its_answers_to_these_messages(lm: LanguageModel) -> None:
    few = shl.load_contexts()[:3]
    config = HealConfig(epochs=4, learning_rate=1e-2, validation_share=0.0)
    held = shl.heal(lm, TEXTS, config, contexts=few)
    assert held.steps[-1].anchor_nats > 0
    assert shl.heal(lm, TEXTS, config, contexts=few).steps == held.steps
    free = shl.heal(lm, TEXTS, config.model_copy(update={"anchor": 0.0}), contexts=few)
    assert {step.anchor_nats for step in free.steps} == {0.0}


@pytest.mark.parametrize("texts", [[], [("Hi.", "")]])
def test_nothing_to_learn_is_refused(lm: LanguageModel, texts: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match="nothing to"):
        shl.heal(lm, texts)
