"""Every architecture that docs/models.md names: load, sample, steer, heal, stack as PEFT does."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor

from steer_heal_love.lm.model.fingerprint import weights_hash
from steer_heal_love.lm.model.load import LanguageModel, load_model
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.patches.hooks import read_hidden, steering
from steer_heal_love.lm.sampler.generate import Sampling, generate
from steer_heal_love.records import Adapter, Direction
from steer_heal_love.stages.heal import Example, HealConfig, heal, target_modules
from tiny import VOCABULARY, WIDTH, random_adapter, random_ids, tiny_tokenizer

EXPERTS = {"num_experts_per_tok": 2, "head_dim": 8}
# Name: (class, what its configuration has besides the common part).
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("Llama", {}),
    "Mistral": ("Mistral", {"sliding_window": 16}),
    "Qwen 2": ("Qwen2", {}),
    "Qwen 3": ("Qwen3", {"head_dim": 8}),
    "Gemma 2": ("Gemma2", {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}),
    "Gemma 3": (
        "Gemma3",
        {
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "Phi 3": ("Phi3", {}),
    "OLMo 2": ("Olmo2", {}),
    "SmolLM 3": ("SmolLM3", {}),
    "GPT-NeoX": ("GPTNeoX", {}),
    "Mixtral": ("Mixtral", {"num_local_experts": 4, **EXPERTS}),
    "Qwen 3 MoE": ("Qwen3Moe", {"num_experts": 4, "moe_intermediate_size": 24, **EXPERTS}),
}
TEXT_CONFIGS = {"Gemma3": "Gemma3TextConfig"}
EXAMPLES = [
    Example(tuple(prompt), tuple(completion))
    for prompt, completion in zip(random_ids(5, 9, 14), random_ids(7, 12, 4, seed=4), strict=True)
]
IDS = torch.tensor(random_ids(12, 12))
CLOSE = {"rtol": 1e-4, "atol": 1e-4}

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def build(name: str) -> Any:
    """A random model of the architecture, always with the same weights."""
    kind, changes = ARCHITECTURES[name]
    tokenizer = tiny_tokenizer()
    config = getattr(transformers, TEXT_CONFIGS.get(kind, f"{kind}Config"))(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **changes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where a model of an architecture is saved, by its name; each is saved once."""

    @cache
    def saved(name: str) -> Path:
        folder: Path = tmp_path_factory.mktemp(re.sub(r"\W", "", name))
        build(name).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        return folder

    return saved


@pytest.fixture
def lm(name: str, folders: Any) -> LanguageModel:
    return load_model(str(folders(name)), device="cpu", dtype="float32")


@torch.inference_mode()
def logits(model: Any) -> Tensor:
    return model(IDS).logits


@every_architecture
def test_it_loads_and_its_head_gives_its_logits(name: str, lm: LanguageModel) -> None:
    assert len(lm.layers) == 4
    torch.testing.assert_close(logits(lm.model), logits(build(name)), **CLOSE)
    with torch.inference_mode():
        hidden = lm.decoder(input_ids=IDS).last_hidden_state
    torch.testing.assert_close(lm.head.logits(hidden[0]), logits(lm.model)[0], **CLOSE)


@every_architecture
def test_greedy_text_is_the_librarys(name: str, lm: LanguageModel) -> None:
    prompts = random_ids(9, 5, 20)
    found = generate(lm, prompts, Sampling(10, temperature=0.0))
    for prompt, ours in zip(prompts, found, strict=True):
        with torch.inference_mode():
            theirs = lm.model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=10,
                do_sample=False,
                pad_token_id=lm.pad_id,
            )[0, len(prompt) :].tolist()
        assert [*ours.token_ids, *([] if ours.end_id is None else [ours.end_id])] == theirs


@every_architecture
def test_steering_adds_its_vector_and_leaves_no_trace(name: str, lm: LanguageModel) -> None:
    plain, prompts = logits(lm.model), random_ids(7, 11)
    direction = Direction((1, 2), torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1)))
    before = read_hidden(lm, prompts, [1])
    with steering(lm, direction, 1.5):
        after = read_hidden(lm, prompts, [1])
        steered = logits(lm.model)
    torch.testing.assert_close(
        after - before, (1.5 * direction.vectors[:1]).expand_as(after), **CLOSE
    )
    assert (steered - plain).abs().max() > 0.1
    assert torch.equal(logits(lm.model), plain)


@every_architecture
def test_a_heal_trains_an_adapter_that_peft_reads_alike(
    name: str, lm: LanguageModel, tmp_path: Path
) -> None:
    weights, plain = weights_hash(lm.model), logits(lm.model)
    config = HealConfig(epochs=1, batch_size=3, learning_rate=3e-2, warmup_share=0, rank=2)
    healed = heal(lm, EXAMPLES, config.model_copy(update={"validation_share": 0.0}), seed=0)
    moved = [t for key, t in healed.adapter.tensors.items() if "lora_B" in key]
    assert len(moved) == len(target_modules(lm, config))
    assert all(t.abs().max() > 0 for t in moved)
    assert weights_hash(lm.model) == weights
    adapters = [healed.adapter, random_adapter(lm, 2, rank=3, alpha=6.0)]
    with student(lm, adapters):
        ours = logits(lm.model)
    torch.testing.assert_close(ours, logits(in_peft(name, adapters, tmp_path)), **CLOSE)
    assert (ours - plain).abs().max() > 0.1
    assert torch.equal(logits(lm.model), plain)


def in_peft(name: str, adapters: list[Adapter], folder: Path) -> Any:
    """The model with all these adapters on, by PEFT."""
    names = [f"round{i}" for i in range(len(adapters))]
    for part, adapter in zip(names, adapters, strict=True):
        (folder / part).mkdir()
        safetensors.torch.save_file(
            dict(adapter.tensors), folder / part / "adapter_model.safetensors"
        )
        (folder / part / "adapter_config.json").write_text(json.dumps(dict(adapter.config)))
    model = peft.PeftModel.from_pretrained(build(name), folder / names[0], adapter_name=names[0])
    for part in names[1:]:
        model.load_adapter(folder / part, adapter_name=part)
    model.base_model.set_adapter(names)
    return model.eval()


@pytest.mark.parametrize("name", ["Mixtral", "Qwen 3 MoE"])
def test_of_experts_the_attention_alone_is_adapted(name: str, lm: LanguageModel) -> None:
    kinds = {n.rsplit(".", 1)[-1] for n in target_modules(lm, HealConfig())}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_the_page_names_what_is_tested() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \| tested", page, re.MULTILINE)
    assert sorted(rows) == sorted(ARCHITECTURES)
