"""Positions and ids that a model does not have are told before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from said import Said, say
from steer_heal_love.budget.positions import check_positions
from steer_heal_love.errors import ModelError
from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.lm.model.load import describe
from steer_heal_love.lm.reading.chat import chat_ids, encode_chat
from steer_heal_love.lm.sampler.generate import Sampling, generate
from steer_heal_love.run_config import RunConfig
from tiny import END, VOCABULARY, WIDTH, build_model, tiny_lm, tiny_tokenizer
from tiny_run import config_data, small_axis, write_inputs

__all__ = ["say"]

AXIS = small_axis()


def gpt_neo(positions: int) -> Any:
    tokenizer = tiny_tokenizer()
    return transformers.GPTNeoForCausalLM(
        transformers.GPTNeoConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=16,
            max_position_embeddings=positions,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()


def check(positions: int, config: dict[str, Any], **how: bool) -> None:
    lm = tiny_lm(max_position_embeddings=positions)
    settings = RunConfig.model_validate(config_data(**config))
    check_positions(lm, AXIS, load_contexts(), settings, **how)


def longest(*texts: str) -> int:
    lm, personas = tiny_lm(), (None, AXIS.pos_system, AXIS.neg_system)
    return max(len(chat_ids(lm, t, s)) for t in texts for s in personas)


@pytest.mark.parametrize(
    ("config", "new", "words"),
    [
        ({"generate": {"max_new_tokens": 40}}, 40, "lower --generate.max-new-tokens to 39, or"),
        ({"evaluate": {"max_new_tokens": 50}}, 50, "lower --evaluate.max-new-tokens to 49, or"),
    ],
)
def test_a_prompt_has_room_for_its_answer(config: dict[str, Any], new: int, words: str) -> None:
    need = longest(*AXIS.probes) + new
    check(need, config, direction=False)
    with pytest.raises(ModelError, match=rf"up to {need} tokens, .* has {need - 1}: {words}"):
        check(need - 1, config, direction=False)


def test_a_long_answer_has_room_too() -> None:
    lm = tiny_lm()
    need = max(len(chat_ids(lm, probe)) for probe in AXIS.probes) + 200
    config = {"evaluate": {"long_samples": 1, "long_tokens": 200}}
    check(need, config, direction=False)
    with pytest.raises(ModelError, match=r"--evaluate.long-tokens to 199, or set --evaluate.long"):
        check(need - 1, config, direction=False)
    check(need - 1, config, direction=False, battery=False)


def test_what_the_direction_and_the_pairs_need_is_told() -> None:
    pair = AXIS.pairs[0]
    need = longest(*AXIS.probes) + 8
    with pytest.raises(ModelError, match=r"a context of the direction .* --steer.contexts"):
        check(need, {"steer": {"contexts": 10_000}})
    crowded = f"{pair.question} {'word ' * 40}"
    axis = AXIS.__class__(**{**vars(AXIS), "pairs": (pair.__class__(crowded, "Yes.", "No."),)})
    lm, config = tiny_lm(max_position_embeddings=need), RunConfig.model_validate(config_data())
    with pytest.raises(ModelError, match=r"pair 'Do you care.*shorten the pair"):
        check_positions(lm, axis, load_contexts(), config, direction=False)


def test_the_sampler_refuses_it_before_its_first_token() -> None:
    lm = describe(gpt_neo(40), tiny_tokenizer())
    prompt = encode_chat(lm, "Hi")
    room = 40 - len(prompt)
    assert len(generate(lm, [prompt], Sampling(room, temperature=0.0))[0].token_ids) <= room
    with pytest.raises(ModelError, match=r"take up to 41 tokens, and the context .* has 40: allow"):
        generate(lm, [prompt], Sampling(room + 1))


def test_learnt_positions_are_counted_in_their_table() -> None:
    model = gpt_neo(40)
    model.config.max_position_embeddings = 4096
    assert describe(model, tiny_tokenizer()).max_positions == 40
    config = {"hidden_size": WIDTH, "num_attention_heads": 4, "num_hidden_layers": 2}
    opt = transformers.OPTForCausalLM(
        transformers.OPTConfig(
            **config, vocab_size=VOCABULARY, ffn_dim=48, word_embed_proj_dim=WIDTH,
            max_position_embeddings=50,
        )
    )  # fmt: skip
    assert opt.model.decoder.embed_positions.num_embeddings == 52
    assert describe(opt, tiny_tokenizer()).max_positions == 50


def test_a_run_that_would_run_out_is_one_line_and_leaves_nothing(
    say: Callable[..., Said], tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    gpt_neo(96).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    flags = write_inputs(tmp_path, evaluate={"long_samples": 1, "long_tokens": 128})
    said = say("run", *flags, "--dtype", "float32", "--out", str(tmp_path / "o"), "--quiet")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert re.search(r"take up to \d+ tokens, and the context of model .* has 96: lower", said.err)
    assert not (tmp_path / "o").exists()


def test_padding_that_the_model_has_no_row_for_is_replaced() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<|new|>"})
    assert tokenizer.pad_token_id >= VOCABULARY
    lm = describe(build_model("llama"), tokenizer)
    assert lm.pad_id == tokenizer.convert_tokens_to_ids(END)
    prompts = [encode_chat(lm, text) for text in ("Hi", "How are you today?")]
    assert len(generate(lm, prompts, Sampling(4))) == 2


def test_a_token_that_the_model_has_no_row_for_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["rainbow"])
    lm = describe(build_model("llama"), tokenizer)
    beyond = tokenizer.convert_tokens_to_ids("rainbow")
    with pytest.raises(ModelError, match=rf"token 'rainbow' has the id {beyond}, .* {VOCABULARY}"):
        encode_chat(lm, "A rainbow")
