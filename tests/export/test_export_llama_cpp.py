"""llama.cpp itself runs the GGUF files: the model, and the adapter on the base model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from exports import make

from export_run import write_run, write_tiny_run
from llama_cpp_server import complete, first_logprobs, start
from steer_heal_love.export.gguf.files import About, write_model
from steer_heal_love.lm.model.load import LanguageModel, describe, load_model
from steer_heal_love.lm.patches.adapters import student as put_on
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.records import Adapter
from tiny import build_model, random_adapter, tiny_tokenizer

PROMPT = list(range(3, 27))


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not here: pip install xllamacpp")
    folder = tmp_path_factory.mktemp(request.param)
    run = write_tiny_run(folder, request.param)
    return make("gguf", run, folder / "out", dtype=torch.float32)


def exact(student: Any, *, adapted: bool) -> torch.Tensor:
    lm = load_model(student.base.spec, dtype="float32", device="cpu")
    with put_on(lm, student.adapters if adapted else ()), torch.inference_mode():
        return torch.log_softmax(lm.model(torch.tensor([PROMPT])).logits[0, -1], -1)


def close(found: dict[int, float], expected: torch.Tensor) -> bool:
    """llama.cpp keeps keys and values in float16, so its log-probabilities are not exact."""
    return all(abs(expected[i].item() - value) < 0.02 for i, value in found.items())


def test_the_model_is_the_student(exported: tuple[Any, Path]) -> None:
    student, folder = exported
    (path,) = (p for p in folder.glob("*-f32.gguf") if "-lora-" not in p.name)
    found = first_logprobs(path, PROMPT)
    assert len(found) == 5
    assert close(found, exact(student, adapted=True))
    assert not close(found, exact(student, adapted=False))


def test_the_lora_makes_the_base_the_student(exported: tuple[Any, Path], tmp_path: Path) -> None:
    student, folder = exported
    (lora,) = folder.glob("*-lora-f32.gguf")
    lm = load_model(student.base.spec, dtype="float32", device="cpu")
    write_model(lm, tmp_path / "base.gguf", About("base", "as it was"), folder)
    assert close(first_logprobs(tmp_path / "base.gguf", PROMPT), exact(student, adapted=False))
    found = first_logprobs(tmp_path / "base.gguf", PROMPT, lora)
    assert close(found, exact(student, adapted=True))


def that_goes_on(lm: LanguageModel) -> Adapter:
    """An adapter whose likeliest next token is a letter: llama.cpp shows no other alone."""
    for seed in range(40):
        adapter = random_adapter(lm, seed=seed)
        with put_on(lm, [adapter]), torch.inference_mode():
            likeliest = lm.model(torch.tensor([PROMPT])).logits[0, -1].argmax()
        text = lm.tokenizer.decode([int(likeliest)])
        if text.isascii() and text.strip().isalpha():
            return adapter
    raise AssertionError("none of them says a letter")


@pytest.fixture
def llama_cpp() -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is not here: pip install xllamacpp")


@pytest.mark.usefixtures("llama_cpp")
@pytest.mark.parametrize("form", ["own head"])
def test_what_is_written_besides_is_read(tmp_path: Path, form: str) -> None:
    scaling = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    long = {"rope_parameters": scaling, "max_position_embeddings": 65536}
    changes: dict[str, dict[str, Any]] = {
        "biases": {"attention_bias": True, "mlp_bias": True},
        "own head": {"tie_word_embeddings": False},
        "llama3": long,
    }
    model = build_model("llama", **changes[form])
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(tmp_path / "model")
    if form == "own head":  # and a flag that says otherwise
        config = json.loads((tmp_path / "model/config.json").read_text("utf-8"))
        config["tie_word_embeddings"] = True
        (tmp_path / "model/config.json").write_text(json.dumps(config), "utf-8")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    lm = load_model(str(tmp_path / "model"), dtype="float32", device="cpu")
    run = write_run(tmp_path / "run", lm, str(tmp_path / "model"), [that_goes_on(lm)])
    student, folder = make("gguf", run, tmp_path / "out", dtype=torch.float32)
    (path,) = (p for p in folder.glob("*-f32.gguf") if "-lora-" not in p.name)
    found = first_logprobs(path, PROMPT)
    assert close(found, exact(student, adapted=True))
    assert not close(found, exact(student, adapted=False))


@pytest.mark.usefixtures("llama_cpp")
def test_it_stops_where_the_model_stops(tmp_path: Path) -> None:
    """At a token that is not the tokenizer's end of text and whose name llama.cpp does not know."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|stop_here|>"]})
    stop = tokenizer.convert_tokens_to_ids("<|stop_here|>")
    model = build_model("llama", vocab_size=len(tokenizer), tie_word_embeddings=False)
    lm = describe(model, tokenizer)
    prompt = encode_chat(lm, "How are you?")
    with torch.no_grad():  # the head answers the prompt with the stop token
        state = model.model(torch.tensor([prompt])).last_hidden_state[0, -1]
        model.lm_head.weight[stop] = state / state.square().sum() * 30
    model.generation_config.eos_token_id = [stop, tokenizer.eos_token_id]
    tokenizer.save_pretrained(tmp_path)
    lm = describe(model, tokenizer)
    write_model(lm, tmp_path / "out.gguf", About("x", "stops"), tmp_path)
    assert complete(start(tmp_path / "out.gguf"), prompt, 12)["finish_reason"] == "stop"
