"""The heal: its loss against a naive one, what it leaves behind, and that it can be replayed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from transformers import get_scheduler

from steer_heal_love.errors import DivergedError, ModelError, OutOfMemory
from steer_heal_love.lm.model.fingerprint import weights_hash
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.maths.divergence import HealTerms
from steer_heal_love.records import Adapter, Healed, HealStep
from steer_heal_love.runs.codec import pack, unpack
from steer_heal_love.stages import heal as module
from steer_heal_love.stages.heal import Example, HealConfig, heal, split, target_modules
from steer_heal_love.stages.healing import optimiser
from steer_heal_love.stages.healing.student import Student, attach_student
from steer_heal_love.stages.healing.texts import (
    Batch,
    Text,
    batches_of_epoch,
    make_batch,
)
from tiny import KINDS, Kind, random_adapter, random_ids, tiny_lm

EXAMPLES = [
    Example(tuple(prompt), tuple(completion))
    for prompt, completion in zip(
        random_ids(5, 1, 24, 9, 12, 6, 3), random_ids(7, 12, 1, 20, 4, 9, 3, seed=4), strict=True
    )
]
QUICK = HealConfig(epochs=2, batch_size=4, learning_rate=3e-3, rank=4, validation_share=0.3)


def randomise(student: Student) -> None:
    """B ≠ 0, so that the student is not the base."""
    with torch.no_grad():
        for parameter in student.parameters.values():
            parameter.normal_(std=0.15, generator=torch.Generator().manual_seed(parameter.numel()))


def naive_loss(student: Student, config: HealConfig, examples: list[Example]) -> dict[str, Tensor]:
    """The loss from the full logits of PEFT's student and of its base, text by text, in float64."""
    nlls, divergences = [], []
    for e in examples:
        ids = torch.tensor([[*e.prompt, *e.completion]])
        where = slice(len(e.prompt) - 1, ids.shape[1] - 1)
        ours = student.model(input_ids=ids).logits[0, where].double().log_softmax(-1)
        with student.model.disable_adapter():
            theirs = student.model(input_ids=ids).logits[0, where].double().log_softmax(-1)
        nlls.append(torch.nn.functional.nll_loss(ours, torch.tensor(e.completion)))
        p, q = (ours, theirs) if config.divergence == "reverse" else (theirs, ours)
        kl = (p.exp() * (p - q)).sum(-1)
        match config.aggregate:
            case "mean":
                divergences.append(kl.mean())
            case "rmse":
                divergences.append(kl.square().mean().sqrt())
            case "p95":
                divergences.append(kl.quantile(0.95))
            case "max":
                divergences.append(kl.max())
    nll, divergence = torch.stack(nlls).mean(), torch.stack(divergences)
    loss = nll + config.lam * (divergence - config.tau).clamp(min=0).mean()
    return {"loss": loss, "nll": nll, "divergence": divergence}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"aggregate": "rmse", "lam": 0.7, "tau": 0.2},
        {"aggregate": "mean", "divergence": "forward"},
        {"aggregate": "p95", "tau": 0.1},
        {"aggregate": "max", "tau": 0.0},
    ],
    ids=lambda s: s["aggregate"],
)
def test_the_loss_and_its_gradient_equal_the_naive_ones(
    kind: Kind, settings: dict[str, Any]
) -> None:
    lm, config = tiny_lm(kind), HealConfig(rank=4, **settings)
    with attach_student(lm, config, 0, EXAMPLES) as (student, texts):
        randomise(student)
        parameters = list(student.parameters.values())
        loss, figures = module.text_loss(student, make_batch(lm, texts.train))
        found = torch.autograd.grad(loss, parameters)
        naive = naive_loss(student, config, EXAMPLES)
        expected = torch.autograd.grad(naive["loss"], parameters)
        alone = [module.text_loss(student, make_batch(lm, [text]))[1] for text in texts.train]
    loss, naive = loss.detach(), {name: value.detach() for name, value in naive.items()}
    assert (naive["divergence"] > config.tau).any()
    torch.testing.assert_close(loss.double(), naive["loss"], rtol=1e-4, atol=1e-4)
    assert figures["loss"] == float(loss)
    assert figures["nll"] == pytest.approx(float(naive["nll"]), rel=1e-4, abs=1e-4)
    divergences = pytest.approx(naive["divergence"].tolist(), rel=1e-4, abs=1e-4)
    assert [f["divergence_mean"] for f in alone] == divergences
    for name, value in (
        ("divergence_mean", naive["divergence"].mean()),
        ("divergence_max", naive["divergence"].max()),
        ("over_tau", (naive["divergence"] > config.tau).double().mean()),
    ):
        assert figures[name] == pytest.approx(float(value), rel=1e-4, abs=1e-4)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", [HealConfig(lam=0), HealConfig(divergence="none", lam=2.0)])
def test_without_a_barrier_it_is_plain_fine_tuning(config: HealConfig) -> None:
    lm = tiny_lm()
    with attach_student(lm, config, 0, EXAMPLES) as (student, texts):
        randomise(student)
        assert all(text.reference is None for text in texts.train)
        batch = make_batch(lm, [texts.train[i] for i in (0, 3, 5)])
        loss, _ = module.text_loss(student, batch)
        expected = []
        for e in (EXAMPLES[0], EXAMPLES[3], EXAMPLES[5]):
            ids = torch.tensor([[*e.prompt, *e.completion]])
            logits = student.model(input_ids=ids).logits[0, len(e.prompt) - 1 : -1]
            expected.append(torch.nn.functional.cross_entropy(logits, torch.tensor(e.completion)))
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("aggregate", ["mean", "rmse", "p95", "max"])
def test_a_fresh_adapter_has_no_divergence_and_a_finite_gradient(aggregate: Any) -> None:
    lm, config = tiny_lm(), HealConfig(aggregate=aggregate, tau=0.0)
    with attach_student(lm, config, 0, EXAMPLES) as (student, texts):
        loss, figures = module.text_loss(student, make_batch(lm, texts.train))
        alone = [module.text_loss(student, make_batch(lm, [text]))[1] for text in texts.train]
        gradients = torch.autograd.grad(loss, list(student.parameters.values()))
    assert max(abs(f["divergence_mean"]) for f in alone) < 1e-4
    assert abs(figures["divergence_max"]) < 1e-4
    assert figures["loss"] == pytest.approx(figures["nll"], abs=1e-4)
    assert all(g.isfinite().all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_a_heal_learns_and_leaves_the_model_as_it_was(kind: Kind) -> None:
    lm = tiny_lm(kind)
    weights, names = weights_hash(lm.model), module_names(lm)
    config = copy.deepcopy(lm.model.config.to_dict())
    healed = heal(lm, EXAMPLES, QUICK.model_copy(update={"epochs": 3}), seed=0)
    per_epoch = len(healed.steps) // 3
    first, last = healed.steps[:per_epoch], healed.steps[-per_epoch:]
    assert mean_nll(last) < mean_nll(first)
    assert [s.step for s in healed.steps] == list(range(len(healed.steps)))
    assert len(healed.validation) == 4
    assert all(torch.isfinite(t).all() for t in healed.adapter.tensors.values())
    check_bare(lm, weights, names)
    assert lm.model.config.to_dict() == config


def mean_nll(steps: Any) -> float:
    return sum(s.nll for s in steps) / len(steps)


def module_names(lm: LanguageModel) -> list[str]:
    return [f"{n} {type(m).__name__}" for n, m in lm.model.named_modules()]


def check_bare(lm: LanguageModel, weights: str, names: list[str]) -> None:
    assert weights_hash(lm.model) == weights
    assert module_names(lm) == names
    assert not hasattr(lm.model, "peft_config")
    assert not any(m.training for m in lm.model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in lm.model.parameters())
    assert lm.patches == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_is_the_student_that_was_trained(kind: Kind) -> None:
    lm, told = tiny_lm(kind), []
    healed = heal(lm, EXAMPLES, QUICK, seed=0, on_step=told.append)
    assert tuple(told) == healed.steps
    held_out = split(EXAMPLES, QUICK.validation_share, 0)[1]
    with student(lm, [healed.adapter]), torch.no_grad():
        nlls = []
        for e in held_out:
            ids = torch.tensor([[*e.prompt, *e.completion]])
            logits = lm.model(ids).logits[0, len(e.prompt) - 1 : -1]
            nlls.append(torch.nn.functional.cross_entropy(logits, torch.tensor(e.completion)))
    assert healed.validation[-1]["nll"] == pytest.approx(float(torch.stack(nlls).mean()), abs=1e-3)
    assert healed.validation[0]["divergence_mean"] < 1e-4 < healed.validation[-1]["divergence_mean"]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant_with_warmup"])
def test_training_equals_a_plain_loop(schedule: Any) -> None:
    config = QUICK.model_copy(
        update={"epochs": 3, "schedule": schedule, "warmup_share": 0.4, "weight_decay": 0.1}
    )
    found = heal(tiny_lm(), EXAMPLES, config, seed=0).adapter.tensors
    train, held_out = split(EXAMPLES, config.validation_share, 0)
    lm = tiny_lm()
    with attach_student(lm, config, 0, train, held_out) as (student, texts):
        batches = [b for e in range(3) for b in batches_of_epoch(texts.train, 4, 1_000_003 * e)]
        parameters = student.parameters
        optimizer = torch.optim.AdamW(parameters.values(), config.learning_rate, weight_decay=0.1)
        warmup = math.ceil(0.4 * len(batches))
        scheduler = get_scheduler(schedule, optimizer, warmup, len(batches))
        for batch in batches:
            module.text_loss(student, make_batch(lm, batch))[0].backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    expected = {n.replace(".default", ""): p.detach() for n, p in parameters.items()}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def test_the_barrier_holds_the_divergence_down() -> None:
    config = QUICK.model_copy(update={"epochs": 3, "learning_rate": 2e-2})

    def final(lam: float) -> float:
        healed = heal(
            tiny_lm(), EXAMPLES, config.model_copy(update={"lam": lam, "tau": 0.1}), seed=0
        )
        return healed.steps[-1].divergence_mean

    assert final(20.0) < 0.7 * final(1e-6)


class Stored:
    """Pieces as a run directory keeps them: packed to bytes, and read back."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.pieces: dict[str, bytes] = {}
        self.computed: list[str] = []
        self.stop_after = stop_after

    def do(self, name: str, compute: Callable[[], Any]) -> Any:
        if name not in self.pieces:
            if self.stop_after == len(self.computed):
                raise KeyboardInterrupt
            self.pieces[name] = pack(compute())
            self.computed.append(name)
        return unpack(self.pieces[name], name)

    def forget(self, prefix: str) -> None:
        raise NotImplementedError


def check_same(a: Healed, b: Healed) -> None:
    check_same_adapter(a.adapter, b.adapter)
    assert a.steps == b.steps
    assert a.validation == b.validation


def check_same_adapter(a: Adapter, b: Adapter) -> None:
    assert a.config == b.config
    assert a.tensors.keys() == b.tensors.keys()
    assert all(torch.equal(t, b.tensors[k]) for k, t in a.tensors.items())


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant_with_warmup"])
def test_an_interrupted_heal_goes_on_to_the_same_adapter(schedule: Any) -> None:
    config = QUICK.model_copy(update={"epochs": 3, "schedule": schedule, "weight_decay": 0.1})
    straight = heal(tiny_lm(), EXAMPLES, config, seed=3)
    stored, lm = Stored(stop_after=1), tiny_lm()
    weights, names = weights_hash(lm.model), module_names(lm)
    with pytest.raises(KeyboardInterrupt):
        heal(lm, EXAMPLES, config, seed=3, pieces=stored)
    check_bare(lm, weights, names)
    torch.manual_seed(12345)
    stored.stop_after = None
    check_same(heal(lm, EXAMPLES, config, seed=3, pieces=stored), straight)
    assert stored.computed == ["epoch-00", "epoch-01", "epoch-02"]
    check_same(heal(lm, EXAMPLES, config, seed=3, pieces=stored), straight)
    assert len(stored.computed) == 3


def test_a_seed_fixes_the_adapter_whatever_the_global_state() -> None:
    a = heal(tiny_lm(), EXAMPLES, QUICK, seed=1)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    b = heal(tiny_lm(), EXAMPLES, QUICK, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    check_same(a, b)
    other = heal(tiny_lm(), EXAMPLES, QUICK, seed=2)
    assert any(not torch.equal(t, other.adapter.tensors[k]) for k, t in a.adapter.tensors.items())


@pytest.mark.parametrize("reference", ["base", "previous"])
def test_the_barrier_holds_on_to_the_reference(reference: Any) -> None:
    lm = tiny_lm()
    config = QUICK.model_copy(update={"reference": reference, "epochs": 1})
    plain = weights_hash(lm.model)
    with student(lm, [random_adapter(lm)]):
        healed = heal(lm, EXAMPLES, config, seed=0)
    start = healed.validation[0]["divergence_mean"]
    assert start > 0.01 if reference == "base" else start < 1e-4
    check_bare(lm, plain, module_names(tiny_lm()))


def test_a_heal_inside_a_student_trains_on_top_of_the_history() -> None:
    lm = tiny_lm()
    history = [random_adapter(lm, 1), random_adapter(lm, 2)]
    with student(lm, history):
        healed = heal(lm, EXAMPLES, QUICK, seed=0)
        inside = lm.model(torch.tensor([[5, 6, 7]])).logits
    with student(lm, history):
        assert torch.equal(lm.model(torch.tensor([[5, 6, 7]])).logits, inside)
    e = split(EXAMPLES, QUICK.validation_share, 0)[1]
    with student(lm, [*history, healed.adapter]), torch.no_grad():
        nlls = [nll_of(lm, example) for example in e]
    assert healed.validation[-1]["nll"] == pytest.approx(sum(nlls) / len(nlls), abs=1e-3)


def nll_of(lm: LanguageModel, e: Example) -> float:
    logits = lm.model(torch.tensor([[*e.prompt, *e.completion]])).logits
    logits = logits[0, len(e.prompt) - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(e.completion)))


@given(st.integers(1, 30), st.floats(0, 0.99), st.integers(0, 2**31))
def test_the_held_out_texts_are_not_trained_on(n: int, share: float, seed: int) -> None:
    examples = [Example((i,), (i,)) for i in range(n)]
    train, held_out = split(examples, share, seed)
    assert sorted([*train, *held_out], key=lambda e: e.prompt) == examples
    assert len(train) >= 1
    assert len(held_out) == min(round(n * share), n - 1)
    assert split(examples, share, seed) == (train, held_out)


def test_without_held_out_texts_there_is_no_validation() -> None:
    healed = heal(tiny_lm(), EXAMPLES[:1], QUICK, seed=0)
    assert healed.validation == ({}, {}, {})


def test_every_text_is_trained_on_once_an_epoch() -> None:
    texts = [Text(example, None, None) for example in EXAMPLES]
    epochs = [batches_of_epoch(texts, 3, seed) for seed in range(6)]
    for batches in epochs:
        read = [texts.index(text) for batch in batches for text in batch]
        assert sorted(read) == list(range(len(EXAMPLES)))
        assert all(1 <= len(batch) <= 3 for batch in batches)
    assert epochs[0] == batches_of_epoch(texts, 3, 0)
    assert any(epoch != epochs[0] for epoch in epochs)


@pytest.mark.parametrize(
    ("kind", "root"),
    [
        ("llama", "model.layers"),
        ("gemma3", "model.layers"),
        ("gemma3_conditional", "model.language_model.layers"),
        ("qwen3", "model.layers"),
    ],
)
def test_target_modules_are_the_linear_ones_of_the_band(kind: Kind, root: str) -> None:
    lm = tiny_lm(kind)
    every = target_modules(lm, HealConfig(layer_low=0.25, layer_high=0.75))
    linear = [f"self_attn.{x}_proj" for x in "qkvo"] + [
        f"mlp.{x}_proj" for x in ("gate", "up", "down")
    ]
    assert sorted(every) == sorted(f"{root}.{i}.{name}" for i in (1, 2) for name in linear)
    some = target_modules(lm, HealConfig(layer_low=0, layer_high=1, targets=("q_proj", "v_proj")))
    assert sorted(some) == sorted(f"{root}.{i}.self_attn.{x}_proj" for i in range(4) for x in "qv")


def test_a_thin_band_is_one_layer() -> None:
    names = target_modules(tiny_lm(), HealConfig(layer_low=0.5, layer_high=0.51))
    assert {name.split(".")[2] for name in names} == {"2"}


def test_targets_that_match_nothing_are_an_error() -> None:
    lm = tiny_lm()
    before = weights_hash(lm.model), module_names(lm)
    with pytest.raises(ModelError, match="no module named c_attn in layers 0 to 2"):
        heal(lm, EXAMPLES, HealConfig(targets=("c_attn",)), seed=0)
    check_bare(lm, *before)


def test_only_the_targets_are_in_the_adapter() -> None:
    config = QUICK.model_copy(update={"targets": ("q_proj",), "epochs": 1})
    lm = tiny_lm()
    adapter = heal(lm, EXAMPLES, config, seed=0).adapter
    names = target_modules(lm, config)
    assert set(adapter.tensors) == {
        f"base_model.model.{n}.lora_{x}.weight" for n in names for x in "AB"
    }
    assert adapter.config["target_modules"] == sorted(names)
    assert (adapter.config["r"], adapter.config["lora_alpha"]) == (4, 32.0)
    assert adapter.config["inference_mode"] is True


def test_a_loss_that_is_not_finite_is_an_error_and_leaves_the_model() -> None:
    lm = tiny_lm()
    decoder: Any = lm.decoder
    decoder.norm.weight.fill_(float("nan"))
    before = weights_hash(lm.model), module_names(lm)
    with pytest.raises(DivergedError, match=r"the loss is nan at step 0.*learning-rate"):
        heal(lm, EXAMPLES, HealConfig(validation_share=0), seed=0)
    check_bare(lm, *before)


def test_a_gradient_that_is_not_finite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module.heal_loss

    def with_infinite_slope(nll: Tensor, *args: Any, **settings: Any) -> HealTerms:
        terms = plain(nll, *args, **settings)
        bad = (nll.sum() * 0).sqrt()  # value 0, gradient NaN
        return HealTerms(terms.loss + bad, terms.nll, terms.divergence, terms.over_tau)

    monkeypatch.setattr(module, "heal_loss", with_infinite_slope)
    lm = tiny_lm()
    before = weights_hash(lm.model), module_names(lm)
    one_step = HealConfig(epochs=1, batch_size=8, validation_share=0)
    with pytest.raises(DivergedError):
        heal(lm, EXAMPLES, one_step, seed=0)
    check_bare(lm, *before)


def test_nothing_to_heal_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="no examples"):
        heal(tiny_lm(), [], QUICK, seed=0)


def test_the_recorded_gradients_are_those_of_the_terms() -> None:
    lm, config = tiny_lm(), QUICK.model_copy(update={"tau": 0.0, "epochs": 2})
    first, *_, last = heal(lm, EXAMPLES, config, seed=0).steps
    assert first.grad_nll > 0
    assert first.grad_barrier < 1e-3
    assert last.grad_barrier > 1e-3
    assert 0 <= first.epoch < last.epoch < 2


@pytest.mark.parametrize(
    "settings",
    [{"layer_low": 0.5, "layer_high": 0.5}, {"rank": 0}, {"lam": -1}, {"tua": 1}, {"epochs": 0}],
    ids=str,
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HealConfig(**settings)


def tight(monkeypatch: pytest.MonkeyPatch, fits: int, sizes: list[int]) -> None:
    """Only so many sequences fit in memory at a time."""
    text_loss = module.text_loss

    def allocate(student: Student, batch: Batch) -> Any:
        if len(batch.input_ids) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(batch.input_ids))
        return text_loss(student, batch)

    monkeypatch.setattr(module, "text_loss", allocate)


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_a_batch_in_parts_is_the_same_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fits: int
) -> None:
    config = QUICK.model_copy(update={"validation_share": 0.0, "tau": 0.05, "epochs": 3})
    whole = heal(tiny_lm(), EXAMPLES, config, seed=0)
    sizes: list[int] = []
    tight(monkeypatch, fits, sizes)
    parts = heal(tiny_lm(), EXAMPLES, config, seed=0)
    assert max(sizes) <= fits
    assert "heal ran out of memory with 4 rows at a time: on with 2" in caplog.text
    for one, other in zip(parts.steps, whole.steps, strict=True):
        assert vars(one) == pytest.approx(vars(other), rel=2e-3, abs=2e-4)
    for name, tensor in whole.adapter.tensors.items():
        torch.testing.assert_close(parts.adapter.tensors[name], tensor, rtol=1e-3, atol=3e-4)


def test_a_sequence_that_does_not_fit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    tight(monkeypatch, 0, [])
    lm = tiny_lm()
    weights, names = weights_hash(lm.model), module_names(lm)
    config = QUICK.model_copy(update={"validation_share": 0.0})
    with pytest.raises(OutOfMemory, match="heal ran out of memory with one row at a time"):
        heal(lm, EXAMPLES, config, seed=0)
    check_bare(lm, weights, names)


def test_the_norm_of_the_gradient_is_recorded_before_it_is_clipped() -> None:
    loose = QUICK.model_copy(update={"max_grad_norm": 1e9, "epochs": 1})
    strict = QUICK.model_copy(update={"max_grad_norm": 1e-3, "epochs": 1})
    norms = [heal(tiny_lm(), EXAMPLES, c, seed=0).steps[0].grad_norm for c in (loose, strict)]
    assert norms[0] == pytest.approx(norms[1])
    assert norms[0] > 1e-3


def gradients_times(monkeypatch: pytest.MonkeyPatch, factor: float, at: int) -> None:
    backward, steps = optimiser.backward, count()

    def meddle(student: Student, terms: Any) -> Any:
        figures = backward(student, terms)
        if next(steps) == at:
            for parameter in student.parameters.values():
                assert parameter.grad is not None
                parameter.grad.mul_(factor)
        return figures

    monkeypatch.setattr(optimiser, "backward", meddle)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_named_with_its_step(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    gradients_times(monkeypatch, factor, at=1)
    with pytest.raises(DivergedError, match="the gradient is not finite at step 1"):
        heal(tiny_lm(), EXAMPLES, QUICK, seed=0)


def test_an_exploding_gradient_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = QUICK.model_copy(update={"batch_size": 1, "validation_share": 0.0, "epochs": 1})
    gradients_times(monkeypatch, 1e5, at=len(EXAMPLES) - 1)
    heal(tiny_lm(), EXAMPLES, config, seed=0)
    assert "the gradient's norm jumped to" in caplog.text
    assert f"at step {len(EXAMPLES) - 1}" in caplog.text


@pytest.mark.parametrize(
    ("held_out", "losses", "expected"),
    [
        ([2.0, 1.5], [1.0, 9.0], False),
        ([2.0, 2.5], [9.0, 1.0], True),
        ([], [3.0, 3.0, 2.0, 2.0], False),
        ([], [2.0, 2.0, 2.0, 3.0], True),
    ],
)
def test_a_heal_that_ends_above_where_it_began(
    held_out: list[float], losses: list[float], expected: bool
) -> None:
    steps = tuple(HealStep(i, 0.0, x, x, 0.0, 0.0, 0.0, 0.0, 0.0) for i, x in enumerate(losses))
    validation = tuple({"loss": x} for x in held_out) or ({}, {})
    assert module.rose(Healed(Adapter({}, {}), steps, validation)) is expected
