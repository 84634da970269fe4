"""Every decoder class of the installed transformers, each as small as its configuration allows."""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from tiny import VOCABULARY, WIDTH, random_ids, tiny_tokenizer

# What makes a configuration small, under the names that architectures have for it.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embed_dim"), WIDTH),
    **dict.fromkeys(("word_embed_proj_dim", "embedding_size", "emb_dim"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 4),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "dff", "ffn_hidden_size"), 48),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "dense_intermediate_size"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "expert_ffn_hidden_size"), 24),
    **dict.fromkeys(("shared_intermediate_size", "intermediate_size_mlp"), 24),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "num_shared_experts"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "head_dim"), 8),
    **dict.fromkeys(("global_head_dim", "swa_head_dim", "swa_v_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("kv_channels", "query_pre_attn_scalar"), 8),
    "first_k_dense_replace": 1,
    "moe_num_shared_experts": 1,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 16,
    "sliding_window": 16,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY,
    "laurel_rank": 4,
    "num_kv_shared_layers": 0,
    "max_position_embeddings": 512,
    "n_positions": 512,
    "max_seq_len": 512,
    "initializer_range": 0.2,
    "vocab_size": VOCABULARY,
}
# What single architectures want beside it.
HYBRID = {"layer_types": ["conv", "full_attention"] * 2}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16}
MORE: dict[str, dict[str, Any]] = {
    "gemma3n_text": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "cohere_compass_text": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "lfm2": HYBRID,
    "lfm2_moe": HYBRID,
    "bamba": MAMBA,
    "granitemoehybrid": MAMBA,
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "dots3_note_text": {"num_key_value_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
}


def decoder_types() -> list[str]:
    """The names of all configurations that transformers has a causal language model for."""
    return sorted(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small_config(model_type: str) -> Any:
    """The smallest configuration of this type; raises whatever it does where there is none."""
    config_class = transformers.CONFIG_MAPPING[model_type]
    values = _small_values(config_class)
    try:
        return config_class(**{**values, "bos_token_id": None}, **MORE.get(model_type, {}))
    except (TypeError, ValueError):  # one that must have a token to begin with
        return config_class(**{**values, **MORE.get(model_type, {})})


def _small_values(config_class: Any) -> dict[str, Any]:
    named = set(inspect.signature(config_class).parameters) | set(config_class.attribute_map)
    tokenizer = tiny_tokenizer()
    values: dict[str, Any] = {name: value for name, value in SMALL.items() if name in named}
    if "kv_lora_rank" in named:  # latent attention has no groups
        values["num_key_value_heads"] = values["num_attention_heads"]
    if "text_config" in config_class.sub_configs:
        for name, inner in config_class.sub_configs.items():
            if isinstance(inner, type) and inner.model_type:
                values[name] = _small_values(inner)
    values |= {"bos_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return values | {"pad_token_id": tokenizer.pad_token_id}


def save_decoder(model_type: str, folder: Path) -> Any:
    """Write a random model of this type with a tokenizer; gives the model."""
    config = small_config(model_type)
    with torch.device("meta"):
        whole = transformers.AutoModelForCausalLM.from_config(config)
    if sum(p.numel() for p in whole.parameters()) > 5_000_000:
        raise ValueError("it does not get small")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.inference_mode():
        model(input_ids=torch.tensor(random_ids(8)))  # what transformers itself cannot run is none
    model.generation_config.eos_token_id = config.get_text_config().eos_token_id
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return model


def outcome(model_type: str, folder: Path) -> tuple[str, str]:
    """(works, refused or not tried; why) for a random model of this type, loaded as a user does.

    What works has transformers' own logits and greedy text; anything else than that and a refusal
    in one line is raised.
    """
    from steer_heal_love.errors import ModelError
    from steer_heal_love.run_config import RunConfig
    from steer_heal_love.runner.model import load_quietly
    from steer_heal_love.stages.heal import HealConfig, target_modules

    try:
        save_decoder(model_type, folder / "m")
    except Exception as error:
        return "not tried", f"no small model of it can be made ({type(error).__name__})"
    try:
        lm = load_quietly(RunConfig(model=str(folder / "m"), device="cpu", dtype="float32"))
        adapted = target_modules(lm, HealConfig())
    except ModelError as error:
        (line,) = str(error).splitlines()
        return "refused", _why(line)
    check_greedy(lm)
    leaves = sorted({name.rpartition(".")[2] for name in adapted})
    return "works", ", ".join(leaves)


def _why(said: str) -> str:
    """The reason in a refusal, without the model's path."""
    return re.sub(r"^model '[^']*'", "", said).partition(": use")[0].strip()


def check_greedy(lm: Any) -> None:
    """Our greedy text is the likeliest of transformers' own passes, without a cache, one by one.

    Some prompts are longer than the sliding window; ours are sampled in one batch.
    """
    from steer_heal_love.lm.sampler.generate import Sampling, generate

    prompts = random_ids(9, 5, 24)
    for prompt, ours in zip(prompts, generate(lm, prompts, Sampling(8, 0.0)), strict=True):
        theirs: list[int] = []
        while len(theirs) < 8 and not set(theirs) & lm.stop_ids:
            with torch.inference_mode():
                logits = lm.model(input_ids=torch.tensor([[*prompt, *theirs]])).logits
            theirs.append(int(logits[0, -1].argmax()))
        drawn = [*ours.token_ids, *([] if ours.end_id is None else [ours.end_id])]
        assert drawn == theirs, (drawn, theirs)


PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END_OF_TABLE = "<!-- make decoders-table -->", "<!-- end of the table -->"


def read_table() -> dict[str, tuple[str, str]]:
    """Of each type on the page whether it works, and why not."""
    text = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END_OF_TABLE)[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \| ([^|]*?) \|$", text, re.MULTILINE)
    return {name: (state, why) for name, state, why in rows}


def write_table(outcomes: dict[str, tuple[str, str]]) -> None:
    """Put the outcomes on the page, what works first."""
    order = ["fails", "works", "refused", "not tried"]
    rows = sorted(outcomes.items(), key=lambda item: (order.index(item[1][0]), item[0]))
    lines = [f"| `{name}` | {state} | {why} |" for name, (state, why) in rows]
    head = ["| model type | state | what is adapted, or why not |", "|---|---|---|"]
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END_OF_TABLE)[2]
    table = "\n".join([BEGIN, "", *head, *lines, "", END_OF_TABLE])
    PAGE.write_text(f"{before}{table}{after}", encoding="utf-8")


def main(types: Sequence[str] = ()) -> None:
    """Try every type, or these, and write the page."""
    transformers.utils.logging.set_verbosity_error()
    outcomes = read_table()
    for model_type in types or decoder_types():
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcomes[model_type] = outcome(model_type, Path(folder))
            except Exception as error:  # on the page, where the test does not take it
                outcomes[model_type] = ("fails", type(error).__name__)
                print(error)
        print(model_type, *outcomes[model_type], flush=True)
    write_table(outcomes)


if __name__ == "__main__":
    main(sys.argv[1:])
