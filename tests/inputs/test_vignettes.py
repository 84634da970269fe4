"""Vignettes: what is bundled, tiny-mfv's format, and what is said about broken files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from steer_heal_love.errors import DataError
from steer_heal_love.inputs import vignettes
from steer_heal_love.inputs.vignettes import (
    FOUNDATIONS,
    TINYMFV_KINDS,
    TINYMFV_NAMES,
    Vignette,
    load_bundled,
    load_file,
    load_tinymfv,
    parse_vignettes,
)

REAL = Path(__file__).parents[3] / "shared" / "data" / "tinymfv"

HUMAN = {
    "human_Care": 83.0,
    "human_Fairness": 0.0,
    "human_Loyalty": 0.0,
    "human_Authority": 3.0,
    "human_Sanctity": 10.0,
    "human_Liberty": 3.0,
    "human_SocialNorms": 0.0,
}


def row(**changes: Any) -> dict[str, Any]:
    """A line of tiny-mfv's, as data; a change to None takes the key out."""
    base = {
        "id": "a1",
        "foundation": "Care (e)",
        "foundation_coarse": "Care",
        "text": "You see someone laughing.",
        "wrong": 3.4,
        **HUMAN,
    }
    return {key: value for key, value in (base | changes).items() if value is not None}


def text_of(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(r) + "\n" for r in rows)


def test_the_bundled_vignettes_are_ten_or_more_a_foundation() -> None:
    found = load_bundled()
    per_foundation = Counter(v.foundation for v in found)
    assert set(per_foundation) == set(FOUNDATIONS)
    assert min(per_foundation.values()) >= 10
    assert all(v.human is None and v.label == v.foundation for v in found)
    assert len({v.text for v in found}) == len(found)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"tiny-mfv's files are not at {REAL}")
@pytest.mark.parametrize("kind", TINYMFV_KINDS)
@pytest.mark.parametrize("name", TINYMFV_NAMES)
def test_the_real_files_of_tiny_mfv(name: str, kind: str) -> None:
    found = load_tinymfv(REAL, name, kind)
    assert len(found) == 132
    assert Counter(v.foundation for v in found)["social"] == 16
    for vignette in found:
        assert vignette.human is not None
        assert sum(vignette.human) == pytest.approx(1)
        assert min(vignette.human) >= 0


def test_human_shares_are_probabilities_in_the_order_of_the_foundations() -> None:
    (found,) = parse_vignettes(text_of(row()), "f")
    assert found.human == pytest.approx([83 / 99, 0, 0, 3 / 99, 10 / 99, 3 / 99, 0])
    assert found.label == "care"


@pytest.mark.parametrize("name", ["Social Norms", "SocialNorms", "social"])
def test_social_norms_are_social(name: str) -> None:
    (found,) = parse_vignettes(text_of(row(foundation_coarse=name)), "f")
    assert found.foundation == "social"


def test_most_people_decide_the_label() -> None:
    shares = (0.1, 0.2, 0.0, 0.0, 0.4, 0.2, 0.1)
    assert Vignette("a", "t", "care", shares).label == "sanctity"


def test_blank_lines_count_and_a_line_separator_inside_a_text_ends_nothing() -> None:
    one = json.dumps(row(text="one\u2028two"), ensure_ascii=False)
    two = json.dumps(row(id="b"))
    assert [v.id for v in parse_vignettes(f"{one}\n\n{two}\n", "f")] == ["a1", "b"]
    with pytest.raises(DataError, match="line 3"):
        parse_vignettes(f"{one}\n\n[]\n", "f")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not valid JSON"),
        ("[" * 100_000, "line 2 is not valid JSON"),
        ("7", "line 2 is not a JSON object"),
        (json.dumps(row(id="b", text=None)), "line 2: key 'text' is missing"),
        (json.dumps(row(id="b", text=" ")), "line 2: key 'text'"),
        (json.dumps(row(id="b", text="x" * 4_001)), "line 2: key 'text'"),
        (
            json.dumps(row(id="b", foundation_coarse="Careful")),
            "line 2: 'Careful' is no foundation",
        ),
        (json.dumps(row(id="b", human_Care=None)), "line 2: key 'human_Care' is missing"),
        (json.dumps(row(id="b", human_Care=float("nan"))), "line 2: key 'human_Care'"),
        (json.dumps(row(id="b", human_Care=-1)), "line 2: key 'human_Care'"),
        (json.dumps(row(id="b", human_Care="most")), "line 2: key 'human_Care'"),
        (json.dumps(row(id="b", human_Care=3)), "line 2: the human shares sum to 19 per cent"),
        (json.dumps(row()), "line 2: the id 'a1' is there twice"),
    ],
)
def test_a_broken_line_is_named(line: str, message: str) -> None:
    with pytest.raises(DataError, match=f"vignette file f.jsonl, {message}"):
        parse_vignettes(f"{json.dumps(row())}\n{line}\n", "f.jsonl")


def test_a_file_without_a_vignette() -> None:
    with pytest.raises(DataError, match="holds no vignette"):
        parse_vignettes(" \n", "f")


def test_too_many_vignettes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vignettes, "MAX_VIGNETTES", 1)
    with pytest.raises(DataError, match="line 2: more than 1 vignettes"):
        parse_vignettes(text_of(row(), row(id="b")), "f")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_tinymfv(tmp_path)
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        load_file(latin)
    monkeypatch.setattr(vignettes, "MAX_BYTES", 3)
    with pytest.raises(DataError, match="larger than 3 bytes"):
        load_file(latin)


def test_a_folder_of_tiny_mfv(tmp_path: Path) -> None:
    (tmp_path / "vignettes_scifi_self_violate.jsonl").write_text(text_of(row()), encoding="utf-8")
    (found,) = load_tinymfv(str(tmp_path), "scifi", "self_violate")
    assert found.id == "a1"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("clasic", "other_violate", "set 'clasic': did you mean 'classic'"),
        ("../x", "other_violate", "unknown tiny-mfv set"),
        ("classic", "other", "unknown tiny-mfv kind"),
    ],
)
def test_unknown_sets(tmp_path: Path, name: str, kind: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_tinymfv(tmp_path, name, kind)


def test_the_hub_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo_id: str, filename: str, *, repo_type: str) -> str:
        asked.append((repo_id, filename, repo_type))
        path = tmp_path / "file.jsonl"
        path.write_text(text_of(row()), encoding="utf-8")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert len(load_tinymfv(name="ai-actor", kind="self_violate")) == 1
    file = "ai-actor/vignettes_self_violate.jsonl"
    assert asked == [("wassname/tiny-mfv", file, "dataset")]


@pytest.mark.parametrize(
    "error",
    [
        OSError("no network\nand more"),
        ConnectionError("no network"),
        huggingface_hub.errors.LocalEntryNotFoundError("no network"),
    ],
)
def test_a_hub_that_cannot_be_reached(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_args: Any, **_kwargs: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError, match=r"cannot be fetched from the hub: no network: give a"):
        load_tinymfv()
