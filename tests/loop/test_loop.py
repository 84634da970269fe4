"""Two rounds on a tiny model: what the loop yields, leaves alone, repeats and says when it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from processes import make_light
from steer_heal_love.errors import DivergedError, StarvedRound
from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.inputs.prompts import training_prompts
from steer_heal_love.lm.model.fingerprint import weights_hash
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.loop.iterative import run_loop
from steer_heal_love.records import Baseline, Completion, Judged, RoundRecord, Scores
from steer_heal_love.report.figures.love_loop import love_loop_plot
from steer_heal_love.report.states import parse_metrics
from steer_heal_love.report.text.diary import write_diary
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runs.as_json import GIB
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.stages import dose
from steer_heal_love.stages.dose import DoseConfig
from tiny import build_model, random_ids, tiny_lm
from tiny_run import config_data, small_axis, without_time

IDS = torch.tensor(random_ids(11, 11))


def settings(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(config_data(**changes))


@dataclass(frozen=True)
class Done:
    lm: LanguageModel
    hashes: tuple[str, str]
    run: RunDirectory
    baseline: Baseline
    rounds: list[RoundRecord]
    reports: list[tuple[str, float, float]]


def carry_out(folder: Path, config: RunConfig) -> Done:
    lm, axis = tiny_lm(), small_axis()
    before = weights_hash(lm.model)
    run = RunDirectory.create(folder, config.model_dump(), axis, {})
    reports: list[tuple[str, float, float]] = []
    found: Iterator[Baseline | RoundRecord] = run_loop(
        lm, axis, load_contexts(), config, pieces=run, report=lambda *now: reports.append(now)
    )
    baseline = next(found)
    assert isinstance(baseline, Baseline)
    run.record_baseline(baseline, {"axis": "kind", "model": "tiny", "seed": config.seed})
    rounds = []
    for record in found:
        assert isinstance(record, RoundRecord)
        run.record_round(record)
        rounds.append(record)
    return Done(lm, (before, weights_hash(lm.model)), run, baseline, rounds, reports)


@pytest.fixture(scope="module", autouse=True)
def _light() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        make_light(patch.setattr)
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return carry_out(tmp_path_factory.mktemp("loop") / "run", settings())


def test_the_loop_yields_the_baseline_and_a_record_a_round(done: Done) -> None:
    assert [r.round for r in done.rounds] == [0, 1]
    for record in done.rounds:
        assert record.kept == 4
        assert record.total == len(record.judged) >= record.kept
        assert 0 < record.dose <= settings().dose.kappa_start
        assert {"steer", "generate", "heal", "evaluate"} <= set(record.wall_s)
        assert record.stopped is None
        assert len(record.healed_result.steps) == settings().heal.epochs
    assert done.rounds[0].cosine_first == pytest.approx(1.0)
    assert -1 <= done.rounds[1].cosine_first < 0.999


def test_what_each_stage_took_is_recorded(done: Done) -> None:
    for record, entry in zip(done.rounds, done.run.metrics()["rounds"], strict=True):
        assert set(entry["wall_s"]) == set(entry["tokens"]) == set(record.cost)
        trained = [j.completion for j in record.judged if j.kept]
        prompts = [len(encode_chat(done.lm, c.prompt)) for c in trained]
        each = sum(prompts) + sum(len(c.token_ids) + c.ended - 1 for c in trained)
        held_out = settings().heal.validation_share
        assert round(len(trained) * held_out) == 0  # so all of them are trained on
        # One step an epoch; random weights write to the limit, and the last token is not read.
        anchors = settings().heal.anchor_batch * (settings().generate.max_new_tokens - 1)
        assert entry["tokens"]["heal"] == settings().heal.epochs * (each + anchors)
        for stage, cost in record.cost.items():
            assert cost.tokens is not None
            assert cost.tokens > 0
            assert cost.peak_bytes is not None
            assert cost.peak_bytes > 1 << 20
            assert entry["tokens_per_s"][stage] == pytest.approx(
                cost.tokens / cost.wall_s, abs=0.06
            )
            assert entry["peak_gib"][stage] == pytest.approx(cost.peak_bytes / GIB, abs=6e-4)


def test_what_the_search_spent_is_recorded(done: Done) -> None:
    for record, entry in zip(done.rounds, done.run.metrics()["rounds"], strict=True):
        effort = record.effort
        assert effort is not None
        assert effort.doses[-1] == record.dose
        assert effort.tokens == sum(j.completion.drawn_tokens for j in record.judged)
        assert 0 < effort.search_tokens <= effort.tokens
        assert entry["effort"] == {
            "search": "walk",
            "doses": list(effort.doses),
            "search_tokens": effort.search_tokens,
            "tokens": effort.tokens,
        }


def test_later_rounds_can_learn_from_what_is_said_unsteered(tmp_path: Path) -> None:
    config = settings(dose={"steered_rounds": 1})
    done = carry_out(tmp_path / "run", config)
    steered, plain = done.rounds
    assert steered.steered is not None
    assert plain.steered is None
    assert (plain.dose, plain.effort.doses) == (0.0, ())
    assert {j.completion.kappa for j in plain.judged} == {0.0}
    assert plain.kept == config.dose.n_keep
    view = read_run(tmp_path / "run")
    assert ["steered" in entry for entry in view.metrics["rounds"]] == [True, False]
    assert "## Night 2: healed" in write_diary(view)
    assert love_loop_plot(parse_metrics(view.metrics)).table.rows[-2][0] == "round 1 healed"


def test_a_schedule_reaches_the_texts_and_is_recorded(done: Done, tmp_path: Path) -> None:
    dosing = {"schedule": "prefix", "schedule_length": 3, "schedule_floor": 0.5}
    found = carry_out(tmp_path / "run", settings(rounds=1, dosing=dosing))
    (record,) = found.rounds
    for text in (j.completion for j in record.judged):
        assert text.kappas is not None
        assert len(text.kappas) == len(text.token_ids)
        wanted = [text.kappa if t < 3 else text.kappa / 2 for t in range(len(text.kappas))]
        assert text.kappas == pytest.approx(wanted)
    rows = found.run.path / "rounds/00/completions.jsonl"
    stored = [json.loads(line)["completion"] for line in rows.read_text("utf-8").splitlines()]
    assert stored[0]["kappas"] == pytest.approx(record.judged[0].completion.kappas)
    constant = done.run.path / "rounds/00/completions.jsonl"
    assert "kappas" not in constant.read_text("utf-8")  # one dose for all tokens says enough
    # what was steered otherwise is measured otherwise
    steered = [r.steered.items["perplexity"] for r in (record, done.rounds[0])]
    assert steered[0] != steered[1]


def test_gate_operator_and_search_reach_the_texts(done: Done) -> None:
    dosing = {"gate": "absolute", "operator": "rotate"}
    (record,) = first_rounds(settings(rounds=1, dosing=dosing, dose={"search": "bisect"}))
    assert record.effort is not None
    assert record.effort.search == "bisect"
    assert record.steered.value("trait_nats") != done.rounds[0].steered.value("trait_nats")
    texts, plain = ([j.completion.text for j in r.judged[:4]] for r in (record, done.rounds[0]))
    assert texts != plain


def test_backtracking_rewinds_and_gives_up_and_the_filter_is_told() -> None:
    """Every surprise is a spike here, so each row is rewound and then given up."""
    dosing = {"backtrack": True, "spike_nats": 0.01, "look_every": 2, "window": 2, "max_rewinds": 1}
    dose = {"min_kept": 2, "max_generated": 8}
    with pytest.raises(StarvedRound, match="dropped 8"):
        first_rounds(settings(rounds=1, dosing=dosing, dose=dose))


def test_every_condition_is_measured_on_the_same_items(done: Done) -> None:
    conditions = [done.baseline.base, done.baseline.prompt_pos, done.baseline.prompt_neg]
    conditions += [m for r in done.rounds for m in (r.steered, r.healed)]
    assert len({tuple((k, len(v)) for k, v in m.items.items()) for m in conditions}) == 1
    assert len({tuple(a.prompt for a in m.answers) for m in conditions}) == 1
    assert len({m.value("trait_nats") for m in conditions}) == len(conditions)


def test_every_completion_is_recorded_with_scores_and_reasons(done: Done) -> None:
    for record in done.rounds:
        rows = done.run.path / f"rounds/{record.round:02d}/completions.jsonl"
        stored = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
        assert len(stored) == record.total
        for row, judged in zip(stored, record.judged, strict=True):
            assert row["completion"]["text"] == judged.completion.text
            assert row["scores"]["perplexity"] > 1
            assert row["kept"] == judged.kept == (not row["reasons"])


def test_the_base_is_the_same_to_the_bit_afterwards(done: Done) -> None:
    before, after = done.hashes
    assert before == after
    assert not done.lm.patches
    assert not any(m._forward_hooks for m in done.lm.model.modules())


def test_the_adapters_load_in_peft_and_give_the_students_logits(done: Done) -> None:
    folders = [done.run.path / f"rounds/{r:02d}/adapter" for r in (0, 1)]
    model = peft.PeftModel.from_pretrained(build_model("llama"), folders[0], adapter_name="r0")
    model.load_adapter(folders[1], adapter_name="r1")
    model.base_model.set_adapter(["r0", "r1"])
    model.eval()
    history = [r.healed_result.adapter for r in done.rounds]
    with torch.inference_mode():
        plain = done.lm.model(IDS).logits
        with student(done.lm, history):
            ours = done.lm.model(IDS).logits
        theirs = model(IDS).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (ours - plain).abs().max() > 0.01


def test_a_round_is_a_function_of_the_seed_and_of_what_was_before(
    done: Done, tmp_path: Path
) -> None:
    again = carry_out(tmp_path / "run", settings(rounds=1))
    longer, metrics = without_time(done.run.metrics()), without_time(again.run.metrics())
    assert metrics == {**longer, "rounds": longer["rounds"][:1]}
    name = "rounds/00/adapter/adapter_model.safetensors"
    assert (again.run.path / name).read_bytes() == (done.run.path / name).read_bytes()


def test_progress_is_told_and_never_beyond_its_end(done: Done) -> None:
    assert {stage for stage, _, _ in done.reports} == {
        "baseline",
        "steer",
        "generate",
        "heal",
        "evaluate",
    }
    assert all(0 <= now <= total for _, now, total in done.reports)


def first_rounds(config: RunConfig) -> list[RoundRecord]:
    found = run_loop(tiny_lm(), small_axis(), load_contexts(), config)
    return [record for record in found if isinstance(record, RoundRecord)]


def test_a_round_below_the_coherence_floor_ends_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    import steer_heal_love.loop.iterative as loop

    monkeypatch.setattr(loop.evaluate, "incoherent", lambda *_: "healed perplexity is 9 times")
    (only,) = first_rounds(settings())
    assert only.stopped == "healed perplexity is 9 times"


def test_a_starved_round_says_which_filter_dropped_how_many() -> None:
    config = settings(filter={"max_perplexity": 1.001}, dose={"max_generated": 8})
    with pytest.raises(StarvedRound, match=r"round 0: .*0 of 8 completions .* by perplexity 8"):
        first_rounds(config)


@pytest.mark.parametrize("floor", [-1e9, 0.0])
def test_a_filter_that_drops_nothing_is_noted(floor: float) -> None:
    many = {"n_keep": 16, "probe_batch": 16, "batch": 16, "max_generated": 32}
    (only,) = first_rounds(settings(rounds=1, filter={"trait_floor": floor}, dose=many))
    dropped = [j for j in only.judged if set(j.reasons) - {"surplus", "duplicate"}]
    noted = any("the filter dropped none" in note for note in only.notes)
    assert bool(dropped) == (floor == 0.0)
    assert noted == (not dropped)


def test_a_heal_that_ends_above_its_start_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    from steer_heal_love.loop import heal as heal_of_loop

    monkeypatch.setattr(heal_of_loop.heal, "rose", lambda _: True)
    (only,) = first_rounds(settings(rounds=1))
    assert any("the heal ended above" in note for note in only.notes)


def test_a_number_that_goes_bad_is_named_with_its_round(monkeypatch: pytest.MonkeyPatch) -> None:
    from steer_heal_love.loop import heal as heal_of_loop

    def diverge(*_: object, **__: object) -> None:
        raise DivergedError("heal: the loss is nan at step 3: lower --heal.learning-rate")

    monkeypatch.setattr(heal_of_loop.heal, "heal", diverge)
    with pytest.raises(DivergedError, match=r"^round 0: heal: the loss is nan at step 3"):
        first_rounds(settings(rounds=1))


def test_the_walk_of_the_next_round_begins_one_step_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[float | None] = []
    walk = dose.search_dose

    def spy(sample: dose.Sample, config: DoseConfig, start: float | None = None) -> dose.Collected:
        starts.append(start)
        collected = walk(sample, config, start)
        return replace(collected, kappa=0.4)

    monkeypatch.setattr(dose, "search_dose", spy)
    config = settings()
    first_rounds(config)
    assert starts == [config.dose.kappa_start, pytest.approx(0.4 / config.dose.decay)]


def test_rivals_are_baked_from_the_same_texts_and_measured_in_round_0() -> None:
    names = ("sft", "arithmetic")
    evaluate = {"rivals": names, "long_samples": 2, "long_tokens": 16}
    first, second = first_rounds(settings(evaluate=evaluate, heal={"tau": 0.0, "epochs": 4}))
    assert tuple(first.rivals) == names
    assert not second.rivals
    assert not any("rival" in note for note in first.notes)
    for found in first.rivals.values():
        assert set(found.items) <= set(first.healed.items)
        assert len(found.items["trait_nats"]) == len(first.healed.items["trait_nats"])
        assert "perplexity_ratio" in found.figures
    values = [m.items["trait_nats"] for m in (first.healed, *first.rivals.values())]
    assert len(set(values)) == 3
    for record in (first, second):
        assert "long_perplexity" in record.healed.figures
        assert "long_perplexity" not in record.steered.figures


def test_without_a_barrier_the_healed_model_is_its_rival() -> None:
    config = settings(rounds=1, heal={"lam": 0.0}, evaluate={"rivals": ("sft",)})
    (only,) = first_rounds(config)
    assert only.rivals["sft"].items["trait_nats"] == only.healed.items["trait_nats"]


def test_a_rival_that_starves_is_told_and_the_round_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import steer_heal_love.loop.competing_methods as rivals

    def starve(*_: object) -> dose.Collected:
        raise StarvedRound("starved: 0 of 8 completions kept")

    monkeypatch.setattr(rivals, "collect_negative", starve)
    evaluate = {"rivals": ("sft", "arithmetic")}
    (only,) = first_rounds(settings(rounds=1, evaluate=evaluate))
    assert set(only.rivals) == {"sft"}
    told = "rival arithmetic was not measured: of its negative texts, starved: 0 of 8"
    assert any(note.startswith(told) for note in only.notes)


def test_the_training_prompts_are_the_probes_and_then_contexts() -> None:
    axis, contexts = small_axis(), load_contexts()
    assert training_prompts(axis, contexts, 1) == list(axis.probes)
    more = training_prompts(axis, contexts, 30)
    assert len(more) == len(set(more)) == 30
    assert more[: len(axis.probes)] == list(axis.probes)


def test_a_record_counts_what_it_kept() -> None:
    scores = Scores(1.0, 1.0, 1.0, 0.0, 0.0, 1.0, False, False, False, False)
    completion = Completion("p", "t", (1,), None, 1.0, 0, 0)
    assert not completion.ended
    assert Judged(completion, scores, ()).kept
    assert not Judged(completion, scores, ("loop",)).kept


def test_anchors_begin_as_plain_texts_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was trained with a beginning-of-text token is out of its depth without it."""
    from steer_heal_love.loop import heal as healing
    from steer_heal_love.loop.context import RunContext
    from steer_heal_love.records import NoPieces
    from steer_heal_love.stages.healing import texts

    begin = 7
    monkeypatch.setattr(texts, "beginning_of_text", lambda _lm: [begin])
    run = RunContext(
        tiny_lm(), small_axis(), load_contexts(), settings(), NoPieces(), lambda *_: None
    )
    anchors = healing.base_anchors(run)
    assert anchors
    assert {anchor.prompt for anchor in anchors} == {(begin,)}
