"""Settings out of flags and files: right, or refused on one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from fuzz import FUZZ, refusal
from steer_heal_love.commands.chat import ChatArguments
from steer_heal_love.commands.run import RunArguments
from steer_heal_love.inputs.axes import axis_to_toml_data, parse_axis
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.settings import config_from, load_config
from steer_heal_love.terminal.flags import parse
from tiny_run import axis_data, config_data

CONFIG = tomli_w.dumps(RunConfig.model_validate(config_data()).model_dump(exclude_none=True))
AXIS = tomli_w.dumps(axis_data())

Change = Callable[[str], str]


def changed(text: str, draw: st.DataObject) -> str:
    """TOML with lines doubled, dropped, swapped, or with other values and characters in them."""
    lines = text.split("\n")
    values = st.sampled_from(
        [
            "-1",
            "0",
            "1e999",
            "nan",
            "inf",
            "true",
            "[]",
            "{}",
            "[[]]",
            '""',
            "1979-05-27",
            "'\x07'",
            "9" * 5000,
            "[" * 3000,
            '"\\uD800"',
            '"""',
            "''''''",
            "0x1F",
            '"x"',
            "[1, 'a', 2.0]",
        ]
    )
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(lines) - 1))
        match draw.draw(st.integers(0, 5)):
            case 0:
                del lines[at]
                lines = lines or [""]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                lines[at] = f"{lines[at].partition('=')[0]} = {draw.draw(values)}"
            case 3:
                lines[at] = lines[at][::-1]
            case 4:
                to = draw.draw(st.integers(0, len(lines[at])))
                lines[at] = lines[at][:to] + draw.draw(st.text(max_size=5)) + lines[at][to:]
            case _:
                to = draw.draw(st.integers(0, len(lines) - 1))
                lines[at], lines[to] = lines[to], lines[at]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "config.toml"


@FUZZ
@given(st.data())
def test_any_config_file_is_read_or_refused(file: Path, draw: st.DataObject) -> None:
    text = changed(CONFIG, draw)
    file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    message = refusal(lambda: load_config(file))
    assert "\n" not in message
    if not message:
        config = load_config(file)
        assert config_from(config.model_dump(), "again") == config


@FUZZ
@given(st.data())
def test_any_axis_file_is_read_or_refused(draw: st.DataObject) -> None:
    text = changed(AXIS, draw)
    message = refusal(lambda: parse_axis(text, "x.toml"))
    assert message.count("\n") == 0
    if not message:
        axis = parse_axis(text, "x.toml")
        assert parse_axis(tomli_w.dumps(axis_to_toml_data(axis)), "again") == axis


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_are_no_config(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    assert "\n" not in refusal(lambda: load_config(file))


flags = st.lists(
    st.sampled_from(
        [
            "--rounds",
            "--heal.tau",
            "--heal.targets",
            "--axis",
            "--out",
            "--quiet",
            "--resume",
            "--",
            "--heal",
            "-1",
            "0",
            "3",
            "nan",
            "x",
            "",
            "=",
            "--heal.tau=1",
            "--rounds=x",
            "-h?",
            "---",
            "--evaluate.front",
            "\x1b[31m",
            "ü",
            "--no-quiet",
            "--dose.kappa-min",
            "[1,2]",
            "None",
        ]
    )
    | st.text(max_size=6),
    max_size=5,
)


@pytest.mark.parametrize(
    ("given_flags", "words"),
    [
        (["--round", "x"], "Error parsing --round: needs INT, not 'x' (`shl chat --help`"),
        (["--dtype", "x"], "Invalid choice 'x' for argument '--dtype'. Expected one of ("),
        (["more"], "Unrecognized options: more (`shl chat --help`"),
    ],
)
def test_what_tyro_says_twice_or_at_length_is_said_in_short(
    given_flags: list[str], words: str
) -> None:
    said = refusal(lambda: parse(ChatArguments, ["smollm2", *given_flags], "shl chat"))
    assert said.startswith(words)


@FUZZ
@given(flags)
def test_any_flags_are_read_or_refused(given_flags: list[str]) -> None:
    def call() -> Any:
        return parse(RunArguments, given_flags, "shl run", RunArguments(RunConfig()))

    if {"-h", "--help"} & set(given_flags):
        return
    assert "\n" not in refusal(call)
