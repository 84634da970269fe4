"""The stacked history against PEFT's own reading of the same files."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.fingerprint import weights_hash
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base, stack, student, subtract
from steer_heal_love.records import Adapter
from tiny import KINDS, Kind, build_model, random_adapter, random_ids, tiny_lm

IDS = torch.tensor(random_ids(11, 11))
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@torch.inference_mode()
def logits(model: Any) -> Tensor:
    return model(IDS).logits


def write(folder: Path, adapter: Adapter) -> Path:
    folder.mkdir()
    safetensors.torch.save_file(dict(adapter.tensors), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(dict(adapter.config)))
    return folder


def load_in_peft(folder: Path, kind: Kind, adapters: list[Adapter]) -> tuple[Any, list[str]]:
    names = [f"round{i}" for i in range(len(adapters))]
    files = [write(folder / n, a) for n, a in zip(names, adapters, strict=True)]
    model = peft.PeftModel.from_pretrained(build_model(kind), files[0], adapter_name=names[0])
    for name, file in zip(names[1:], files[1:], strict=True):
        model.load_adapter(file, adapter_name=name)
    return model.eval(), names


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}], ids=["plain", "rslora"])
def test_one_adapter_equals_peft(tmp_path: Path, kind: Kind, settings: dict[str, Any]) -> None:
    lm = tiny_lm(kind)
    adapter = random_adapter(lm, **settings)
    model, _ = load_in_peft(tmp_path, kind, [adapter])
    with student(lm, [adapter]):
        found = logits(lm.model)
    torch.testing.assert_close(found, logits(model), **CLOSE)
    assert (found - logits(lm.model)).abs().max() > 0.1


def rounds_of(lm: LanguageModel) -> list[Adapter]:
    return [
        random_adapter(lm, 1, rank=2, alpha=4.0),
        random_adapter(lm, 2, rank=5, alpha=3.0),
        random_adapter(lm, 3, rank=4, alpha=8.0, targets=("q_proj", "down_proj")),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_several_rounds_equal_several_active_adapters(tmp_path: Path, kind: Kind) -> None:
    lm = tiny_lm(kind)
    adapters = rounds_of(lm)
    model, names = load_in_peft(tmp_path, kind, adapters)
    model.base_model.set_adapter(names)
    with student(lm, adapters):
        torch.testing.assert_close(logits(lm.model), logits(model), **CLOSE)


def test_several_rounds_equal_the_concatenated_adapter(tmp_path: Path) -> None:
    lm = tiny_lm()
    adapters = rounds_of(lm)[:2]
    model, names = load_in_peft(tmp_path, "llama", adapters)
    model.add_weighted_adapter(names, [1.0, 1.0], "stacked", combination_type="cat")
    model.set_adapter("stacked")
    with student(lm, adapters):
        torch.testing.assert_close(logits(lm.model), logits(model), **CLOSE)


def test_the_difference_of_two_adapters_equals_pefts_linear_combination(tmp_path: Path) -> None:
    lm = tiny_lm()
    one, other = random_adapter(lm, 1, rank=3, alpha=6.0), random_adapter(lm, 2, rank=3, alpha=6.0)
    model, names = load_in_peft(tmp_path, "llama", [one, other])
    model.add_weighted_adapter(names, [1.0, -1.0], "difference", combination_type="cat")
    model.set_adapter("difference")
    with student(lm, [subtract(one, other)]):
        torch.testing.assert_close(logits(lm.model), logits(model), **CLOSE)
    with student(lm, [subtract(one, one)]):
        torch.testing.assert_close(logits(lm.model), logits(build_model("llama")), **CLOSE)


@pytest.mark.parametrize("settings", [{"rank": 2}, {"alpha": 3.0}, {"targets": ("q_proj",)}])
def test_only_adapters_of_one_form_are_subtracted(settings: dict[str, Any]) -> None:
    lm = tiny_lm()
    with pytest.raises(ModelError, match="cannot be subtracted"):
        subtract(random_adapter(lm, 1, rank=4), random_adapter(lm, 2, **{"rank": 4} | settings))


def test_students_inside_each_other_add_up() -> None:
    lm = tiny_lm()
    a, b, _ = rounds_of(lm)
    plain = logits(lm.model)
    with student(lm, [a, b]):
        expected = logits(lm.model)
    with student(lm, [a]):
        alone = logits(lm.model)
        with student(lm, [b]):
            torch.testing.assert_close(logits(lm.model), expected, **CLOSE)
        assert torch.equal(logits(lm.model), alone)
        with base(lm):
            assert torch.equal(logits(lm.model), plain)


def test_no_adapters_is_the_base_model() -> None:
    lm = tiny_lm()
    plain = logits(lm.model)
    with student(lm, []):
        assert torch.equal(logits(lm.model), plain)


class CountProducts(TorchDispatchMode):
    """How often each matrix product is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in {"mm", "addmm", "bmm", "baddbmm"}:
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))


def test_the_work_does_not_grow_with_the_rounds() -> None:
    lm = tiny_lm()

    def products(n: int) -> int:
        adapters = [random_adapter(lm, seed) for seed in range(n)]
        # Inference mode would hide the products from the dispatcher.
        with student(lm, adapters), CountProducts() as mode, torch.no_grad():
            lm.model(IDS)
        return mode.calls.total()

    adapted = len(random_adapter(lm).tensors) // 2
    assert products(1) == products(0) + 2 * adapted
    assert products(6) == products(1)


def test_stack_is_the_sum_of_the_scaled_updates() -> None:
    lm = tiny_lm()
    adapters = rounds_of(lm)
    for module, term in stack(adapters).items():
        total: Any = 0.0
        for adapter in adapters:
            key = f"base_model.model.{module}"
            if f"{key}.lora_A.weight" in adapter.tensors:
                a, b = (adapter.tensors[f"{key}.lora_{x}.weight"].double() for x in "AB")
                total = total + adapter.config["lora_alpha"] / adapter.config["r"] * b @ a
        torch.testing.assert_close((term.B @ term.A).double(), total, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_is_untouched_also_when_the_body_raises(kind: Kind) -> None:
    lm = tiny_lm(kind)
    weights, plain = weights_hash(lm.model), logits(lm.model)
    with pytest.raises(ZeroDivisionError), student(lm, rounds_of(lm)):
        raise ZeroDivisionError
    assert weights_hash(lm.model) == weights
    assert torch.equal(logits(lm.model), plain)
    check_bare(lm)


def check_bare(lm: LanguageModel) -> None:
    assert lm.patches == []
    assert not any(m._forward_hooks for m in lm.model.modules())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"intermediate_size": 40}, "does not fit a weight of shape"),
        ({"num_hidden_layers": 8}, "which this model does not have"),
    ],
)
def test_an_adapter_of_another_model_is_refused(changes: dict[str, int], words: str) -> None:
    lm, adapter = tiny_lm(), random_adapter(tiny_lm(**changes))
    with pytest.raises(ModelError, match=words), student(lm, [adapter]):
        pass
    check_bare(lm)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, "only plain LoRA"),
        ({"bias": "all"}, "only plain LoRA"),
        ({"rank_pattern": {"q_proj": 2}}, "rank or alpha per module"),
        ({"alpha_pattern": {"q_proj": 2}}, "rank or alpha per module"),
    ],
)
def test_what_cannot_be_stacked_is_refused(settings: dict[str, Any], words: str) -> None:
    adapter = random_adapter(tiny_lm())
    refused = dataclasses.replace(adapter, config={**adapter.config, **settings})
    with pytest.raises(ModelError, match=words):
        stack([refused])


@pytest.mark.parametrize("changes", [{"hidden_size": 48}, {"intermediate_size": 80}])
def test_adapters_of_different_widths_are_refused(changes: dict[str, int]) -> None:
    history = [random_adapter(tiny_lm()), random_adapter(tiny_lm(**changes))]
    with pytest.raises(ModelError, match="made for different models") as caught:
        stack(history)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError) as refused:
        subtract(*history)
    assert str(refused.value) == str(caught.value)
    assert stack(history[:1]).keys() == stack(history[1:]).keys()  # the width alone differs


@pytest.mark.parametrize("half", ["A", "B"])
def test_half_a_factor_is_refused(half: str) -> None:
    adapter = random_adapter(tiny_lm())
    gone = next(k for k in adapter.tensors if k.endswith(f"lora_{half}.weight"))
    tensors = {k: t for k, t in adapter.tensors.items() if k != gone}
    with pytest.raises(ModelError, match="but not its lora_"):
        stack([dataclasses.replace(adapter, tensors=tensors)])


@pytest.mark.parametrize("key", ["base_model.model.x.lora_embedding_A", "x.lora_A.weight"])
def test_a_foreign_tensor_is_refused(key: str) -> None:
    adapter = random_adapter(tiny_lm())
    tensors = {**adapter.tensors, key: torch.zeros(2, 2)}
    with pytest.raises(ModelError, match="not a plain LoRA factor"):
        stack([dataclasses.replace(adapter, tensors=tensors)])
