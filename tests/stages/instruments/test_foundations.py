"""Which vignettes are asked and by whom: ours, tiny-mfv's files, its package, or nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steer_heal_love.errors import ConfigError, DataError
from steer_heal_love.inputs.vignettes import COARSE, FOUNDATIONS, load_bundled
from steer_heal_love.stages.instruments import foundations
from steer_heal_love.stages.instruments.foundations import Foundations, FoundationsConfig
from steer_heal_love.stages.instruments.mfv_package import MfvPackage
from tiny import tiny_lm


def config(**settings: Any) -> FoundationsConfig:
    return FoundationsConfig.model_validate(settings)


def write_set(folder: Path) -> None:
    shares = {f"human_{name}": 100.0 if name == "Care" else 0.0 for name in COARSE}
    lines = [
        {"id": f"v{i}", "text": f"You see act {i}.", "foundation": "Care", **shares}
        for i in range(3)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "vignettes_classic_other_violate.jsonl").write_text(text, "utf-8")


def test_the_bundled_vignettes_unless_told() -> None:
    assert Foundations(config()).vignettes == load_bundled()


def test_off_is_nothing_at_all() -> None:
    found = Foundations(config(mfv="off")).measure(tiny_lm(), system=None, seed=0)
    assert not found.figures
    assert not found.items


def test_a_folder_of_tiny_mfv_is_asked_with_its_human_shares(tmp_path: Path) -> None:
    write_set(tmp_path)
    asked = Foundations(config(mfv_set="classic", mfv_folder=str(tmp_path)))
    found = asked.measure(tiny_lm(), system=None, seed=0)
    assert len(found.items["p_care"]) == 3
    assert found.value("human_care") == 1.0
    assert sum(found.value(f"p_{f}") for f in FOUNDATIONS) == pytest.approx(1.0)


def test_a_folder_without_the_set_fails_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"vignettes_scifi_other_violate\.jsonl cannot be read"):
        Foundations(config(mfv_set="scifi", mfv_folder=str(tmp_path)))


def test_thinking_changes_the_answers(tmp_path: Path) -> None:
    write_set(tmp_path)
    lm, where = tiny_lm(), {"mfv_set": "classic", "mfv_folder": str(tmp_path)}
    at_once = Foundations(config(**where)).measure(lm, system=None, seed=0)
    thought = Foundations(config(**where, mfv_think_tokens=64)).measure(lm, system=None, seed=0)
    assert thought.items["p_care"] != at_once.items["p_care"]


def test_the_package_is_missed_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer_heal_love.stages.instruments.mfv_package.MODULES", ("nosuchmfv",))
    with pytest.raises(ConfigError, match="is not installed"):
        Foundations(config(mfv="package"))


def test_the_package_gets_the_system_prompt_in_front_of_each_chat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered: list[str] = []

    def evaluate(
        model: Any,
        tokenizer: Any,
        *,
        vignettes: Any,
        conditions: Any,
        max_think_tokens: int,
        batch_size: int,
        return_per_row: bool,
    ) -> dict[str, Any]:
        asked = [[{"role": "user", "content": v["other_violate"]}] for v in vignettes]
        alone = tokenizer.apply_chat_template(asked[0], tokenize=False)
        batch = tokenizer.apply_chat_template(asked, tokenize=False)
        assert batch[0] == alone
        rendered.append(alone)
        rows = [{"id": v["id"], "p": dict.fromkeys(FOUNDATIONS, 1 / 7)} for v in vignettes]
        return {"per_row": rows}

    package = MfvPackage("fake", evaluate, FOUNDATIONS)
    monkeypatch.setattr(foundations, "find_package", lambda: package)
    lm = tiny_lm()
    asked = Foundations(config(mfv="package"))
    for system in (None, "You are kind."):
        found = asked.measure(lm, system=system, seed=0)
        assert found.value("p_care") == pytest.approx(1 / 7)
    assert "You are kind." in rendered[1]
    assert rendered[1].replace("You are kind.", "") != rendered[1]
    assert "You are kind." not in rendered[0]
    chat = [{"role": "user", "content": load_bundled()[0].text}]
    assert lm.tokenizer.apply_chat_template(chat, tokenize=False) == rendered[0]
