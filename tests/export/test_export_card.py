"""The card: what the run found, escaped; the licence; the way to repeat it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import huggingface_hub
import markdown_it
import pytest
from exports import LICENCE, make

from export_run import write_tiny_run
from steer_heal_love.commands.run import RunArguments
from steer_heal_love.export.licence import Licence, find_licence
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.runner.settings import load_config
from steer_heal_love.terminal.flags import parse
from tiny_run import axis_data


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    path = folder / "README.md"
    return huggingface_hub.metadata_load(path) or {}, path.read_text("utf-8")


@pytest.mark.parametrize("kind", ["peft", "merged", "gguf", "vector"])
def test_every_kind_has_a_whole_card(run: Path, tmp_path: Path, kind: Any) -> None:
    student, folder = make(kind, run, tmp_path / "out")
    meta, text = card_of(folder)
    assert meta["license"] == "apache-2.0"
    assert "steer-heal-love" in meta["tags"]
    assert meta.get("library_name") == {"peft": "peft", "merged": "transformers"}.get(kind)
    for heading in ("How to use it", "What was measured", "Verdicts", "How it was made"):
        assert f"\n## {heading}\n" in text
    for heading in ("Limitations", "Intended use and misuse", "Licence", "Reproduce"):
        assert f"\n## {heading}\n" in text
    assert "| trait, nats per token | +0.10 (+0.05 to +0.15) | +0.40 (+0.35 to +0.45) |" in text
    assert student.view.axis.pos_system in text
    assert "undefined" not in text
    assert "None" not in text.replace("None: the run recorded", "")
    assert "\n\n\n" not in text
    assert {p.name for p in folder.iterdir()} >= {
        "chat_template.jinja",
        "tokenizer.json",
        "steer_heal_love.json",
    }


HOSTILE = "</td><script>alert(1)</script> [x](javascript:alert(1)) | a\n---\nlicense: mit\n\u202e`x"


def test_nothing_of_the_run_takes_effect(tmp_path: Path) -> None:
    axis = axis_data(description=HOSTILE.replace("\n", " "), pos="someone `who` <b>cares</b> | so")
    run = write_tiny_run(tmp_path, axis=axis)
    _, folder = make("peft", run, tmp_path / "out")
    meta, text = card_of(folder)
    html = markdown_it.MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(
        text.split("---", 2)[2]
    )
    assert "<script" not in html
    assert "<b>" not in html
    assert "javascript:alert" not in html.replace("javascript:alert(1))", "")
    assert "\u202e" not in text
    assert meta["license"] == "apache-2.0"


def test_the_way_to_repeat_the_run_is_one(run: Path, tmp_path: Path) -> None:
    student, folder = make("peft", run, tmp_path / "out")
    text = (folder / "README.md").read_text("utf-8")
    command = next(line for line in text.splitlines() if line.startswith("shl run"))
    given = shlex.split(command)[2:]
    where = {"reproduce/config.toml", "reproduce/axis.toml"}
    given = [str(folder / word) if word in where else word for word in given]
    config = load_config(folder / "reproduce/config.toml")
    parsed = parse(RunArguments, given, "shl run", RunArguments(config))
    assert parsed.settings.rounds == student.round + 1
    assert parsed.settings.seed == 7
    assert parsed.settings.model == student.base.spec
    assert load_axis(parsed.settings.axis) == student.view.axis


def test_an_earlier_round_has_its_own_figures(run: Path, tmp_path: Path) -> None:
    from steer_heal_love.export.exporting import export
    from steer_heal_love.export.job import ExportOptions
    from steer_heal_love.export.student import read_student

    export("peft", read_student(run, 0), tmp_path / "0", ExportOptions(), LICENCE, lambda _: None)
    make("peft", run, tmp_path / "1")
    first, last = ((tmp_path / name / "README.md").read_text("utf-8") for name in "01")
    assert "+0.80 (+0.75 to +0.85)" in first
    assert "+0.80 (+0.75 to +0.85)" not in last
    assert "+0.90 (+0.85 to +0.95)" in last
    assert "after round 0" in first
    assert "--rounds 1 " in first


def test_a_base_on_the_hub_is_linked(run: Path, tmp_path: Path) -> None:
    from steer_heal_love.export.exporting import export
    from steer_heal_love.export.job import ExportOptions
    from steer_heal_love.export.student import read_student

    student = read_student(run, None, name="owner/base-model")
    export("peft", student, tmp_path / "out", ExportOptions(), LICENCE, lambda _: None)
    meta, text = card_of(tmp_path / "out")
    assert meta["base_model"] == "owner/base-model"
    assert meta["base_model_relation"] == "adapter"
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert str(run.parent).encode() not in path.read_bytes(), path
    assert "owner/base-model" in text


def test_the_licence_beside_the_weights_goes_along(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert find_licence(str(folder), None).id is None
    (folder / "LICENSE").write_text("Be kind.")
    assert find_licence(str(folder), None).source == "only its files were found"
    (folder / "README.md").write_text(
        "---\nlicense: other\nlicense_name: kind\nlicense_link: https://example.org/k\n---\nx\n"
    )
    found = find_licence(str(folder), None)
    assert found == Licence(
        "other",
        "from the card beside the weights",
        "kind",
        "https://example.org/k",
        (("LICENSE", b"Be kind."),),
    )
    given = find_licence(str(folder), None, "mit")
    assert (given.id, given.files) == ("mit", found.files)
    (folder / "README.md").write_text("---\n: : :\n\t- x\n---\n")
    assert find_licence(str(folder), None).id is None


def test_the_licence_of_a_gguf_file_is_in_it(run: Path, tmp_path: Path) -> None:
    make("gguf", run, tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*-f16.gguf")
    assert find_licence(str(path), None).id == "apache-2.0"
