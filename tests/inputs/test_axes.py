"""The built-in axes and contexts are what they must be, and broken axis files are refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from steer_heal_love.errors import AxisError, SteerHealLoveError
from steer_heal_love.inputs.axes import (
    MAX_AXIS_BYTES,
    axis_to_toml_data,
    builtin_axes,
    load_axis,
    load_contexts,
    parse_axis,
)
from steer_heal_love.inputs.patterns import matches
from tiny_run import PAIRS, axis_data

PROBES_AND_PAIRS = {"love": (24, 40), "care-over-authority": (32, 40)}


def refused(text: str, file: str = "mine.toml") -> str:
    """The one line that a broken axis file gets."""
    with pytest.raises(AxisError) as caught:
        parse_axis(text, file)
    message = str(caught.value)
    assert file in message
    assert "\n" not in message
    return message


def broken(**changes: Any) -> str:
    return refused(tomli_w.dumps(axis_data(**changes)))


def test_two_axes_come_with_the_package() -> None:
    assert builtin_axes() == sorted(PROBES_AND_PAIRS)


@pytest.mark.parametrize("name", PROBES_AND_PAIRS)
def test_a_built_in_axis_is_large_enough(name: str) -> None:
    axis = load_axis(name)
    assert axis.name == name
    n_probes, n_pairs = PROBES_AND_PAIRS[name]
    assert len(axis.probes) >= n_probes
    assert len(axis.pairs) >= n_pairs
    assert len({p.question for p in axis.pairs}) >= n_pairs
    assert set(axis.foundations.values()) <= {-1, 1}


def test_the_care_axis_is_the_published_one() -> None:
    axis = load_axis("care-over-authority")
    assert axis.pos == (
        "someone who looks after others' wellbeing even when it means defying authority"
    )
    assert axis.neg == "someone who defers to authority even when others' wellbeing suffers for it"
    assert dict(axis.foundations) == {"care": 1, "authority": -1}
    assert axis.pos_system == f"You are {axis.pos}."


@pytest.mark.parametrize("name", PROBES_AND_PAIRS)
def test_narration_patterns_spare_every_answer(name: str) -> None:
    axis = load_axis(name)
    for text in (a for p in axis.pairs for a in (p.trait, p.other)):
        for pattern in axis.narration:
            assert not matches(pattern, text), (pattern, text)


@pytest.mark.parametrize("name", PROBES_AND_PAIRS)
def test_narration_patterns_catch_the_personas(name: str) -> None:
    axis = load_axis(name)
    for persona in (axis.pos, axis.neg):
        told = f"Well, I am {persona}, as you know."
        assert any(matches(p, told) for p in axis.narration), told


@pytest.mark.parametrize("name", PROBES_AND_PAIRS)
def test_answers_of_a_pair_are_matched_in_length(name: str) -> None:
    for pair in load_axis(name).pairs:
        long, short = sorted((len(pair.trait), len(pair.other)), reverse=True)
        assert pair.trait != pair.other
        assert long <= 2 * short, pair


@pytest.mark.parametrize("name", PROBES_AND_PAIRS)
def test_an_axis_survives_its_own_toml(name: str) -> None:
    axis = load_axis(name)
    assert parse_axis(tomli_w.dumps(axis_to_toml_data(axis)), "again") == axis


def test_the_contexts_are_many_and_of_many_kinds() -> None:
    contexts = load_contexts()
    assert len(contexts) >= 200
    assert len({c.text for c in contexts}) == len(contexts)
    kinds = Counter(c.kind for c in contexts)
    assert len(kinds) >= 10
    assert max(kinds.values()) <= len(contexts) / 4
    assert all(c.text.strip() for c in contexts)


def test_an_axis_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(axis_data()), encoding="utf-8")
    axis = load_axis(str(path))
    assert axis.name == "kind"
    assert axis.template == "You are {persona}."
    assert len(axis.pairs) == len(PAIRS)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(AxisError, match=r"unknown axis 'lvoe': did you mean 'love'\?"):
        load_axis("lvoe")
    with pytest.raises(AxisError, match=r"give the path of a \.toml file"):
        load_axis("zzzz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AxisError, match=r"nowhere\.toml cannot be read: No such file"):
        load_axis(str(tmp_path / "nowhere.toml"))
    with pytest.raises(AxisError, match="cannot be read"):
        load_axis(f"{tmp_path}/")
    with pytest.raises(SteerHealLoveError):
        load_axis("a\0b.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(AxisError, match=r"not UTF-8 \(byte 8\)"):
        load_axis(str(path))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"#" * (MAX_AXIS_BYTES + 1))
    with pytest.raises(AxisError, match="larger than"):
        load_axis(str(path))


def test_broken_toml_gives_the_line() -> None:
    message = refused('name = "kind"\ndescription = oops\n')
    assert "line 2" in message
    assert "mend" in message


@pytest.mark.parametrize("key", ["name", "description", "pos", "neg", "probes", "pairs"])
def test_a_missing_key_is_named(key: str) -> None:
    data = axis_data()
    del data[key]
    assert f"key '{key}' is missing: add it" in refused(tomli_w.dumps(data))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"proes": ["x"]}, "unknown key 'proes': did you mean 'probes'?"),
        ({"probes": []}, "key 'probes': list should have at least 1 item"),
        ({"pairs": PAIRS[:1]}, "key 'pairs': list should have at least 2 items"),
        ({"pairs": [PAIRS[0], {"question": "x"}]}, "key 'pairs.1.trait' is missing"),
        ({"pairs": [PAIRS[0], {**PAIRS[1], "othr": "x"}]}, "did you mean 'other'?"),
        ({"probes": ["a", ""]}, "key 'probes.1'"),
        ({"probes": ["a", 5]}, "key 'probes.1'"),
        ({"probes": ["a", "b", "a "]}, "'probes' holds a prompt twice"),
        ({"pos": "x", "neg": "x"}, "'pos' and 'neg' are the same"),
        ({"template": "You are."}, "must contain {persona}"),
        ({"name": "../../etc"}, "key 'name'"),
        ({"name": "a b"}, "key 'name'"),
        ({"name": ".."}, "key 'name'"),
        ({"name": "x" * 65}, "key 'name'"),
        ({"foundations": {"care": 2}}, "key 'foundations.care' must be 1 or -1"),
        ({"narration": ["(unclosed"]}, "key 'narration.0' is not a regular expression"),
        ({"narration": ["fine", "(a+)+b"]}, "key 'narration.1'"),
    ],
)
def test_a_broken_key_is_named_with_a_remedy(changes: dict[str, Any], expected: str) -> None:
    assert expected in broken(**changes)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "((a+))+$",
        "(?:a|a)+b",
        "(?:(?:a|b)+,?)+$",
        "(?:(?:a{1,9}){1,9}){1,9}b",
        "((a{9999}){9999}){9999}",
        "[" * 5000,
        "(" * 5000 + ")" * 5000,
        "a{99999999999}",
    ],
)
def test_a_pattern_that_could_take_for_ever_is_refused(pattern: str) -> None:
    assert "key 'narration.0'" in broken(narration=[pattern])


@pytest.mark.parametrize(
    "text",
    [
        "Καλημέρα, κόσμε",
        "שלום עולם",
        "مرحبا بالعالم",
        "👩‍👩‍👧‍👦 love 🖤",
        "\u202eevil\u202c",
        "tab\tand\x07bell\x1b[31m",
        "{{ 7 * 7 }} {% raw %}",
        "<script>alert(1)</script>",
        "=cmd()|' /C calc'!A0",
    ],
)
def test_any_text_may_stand_in_an_axis(text: str) -> None:
    axis = parse_axis(tomli_w.dumps(axis_data(probes=[text], pos=text)), "odd.toml")
    assert axis.probes == (text,)
    assert parse_axis(tomli_w.dumps(axis_to_toml_data(axis)), "again.toml") == axis


def test_braces_in_a_persona_are_text() -> None:
    axis = parse_axis(tomli_w.dumps(axis_data(pos="a {persona} of {0} {x!r}")), "odd.toml")
    assert axis.pos_system == "You are a {persona} of {0} {x!r}."


def test_ten_thousand_probes_are_read() -> None:
    probes = [f"Question number {i}?" for i in range(10_000)]
    assert len(parse_axis(tomli_w.dumps(axis_data(probes=probes)), "big.toml").probes) == 10_000
