"""Processes that are started, told their places, and seen to their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from steer_heal_love.errors import ConfigError
from steer_heal_love.parallel.launch import environment, exit_code, launch
from tiny_run import outcome, write_inputs


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], 0),
        ([2, 1], 2),  # what the first one told counts
        ([0, 3], 3),
        ([1, -9], 1),
        ([-9, 1], 137),
        ([0, -15, 2], 143),
    ],
)
def test_the_code_is_the_first_process_own(codes: list[int], code: int) -> None:
    assert exit_code(codes) == code


def test_one_speaks_for_all(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(2, ["--version"]) == 0
    assert capfd.readouterr().out.count("shl ") == 1


def test_bad_input_ends_all_with_its_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(2, ["nonsense"]) == 2
    assert "unknown command 'nonsense'" in capfd.readouterr().err


def test_places_and_threads_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    given = [environment(rank, 3, "meeting") for rank in range(3)]
    assert [(e["RANK"], e["LOCAL_RANK"], e["WORLD_SIZE"]) for e in given] == [
        (str(rank), str(rank), "3") for rank in range(3)
    ]
    assert {e["SHL_RENDEZVOUS"] for e in given} == {"meeting"}
    assert all(int(e["OMP_NUM_THREADS"]) >= 1 for e in given)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert environment(0, 3, "meeting")["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize("number", ["0", "-1", "9999"])
def test_no_number_of_processes(number: str) -> None:
    from steer_heal_love.commands.run import main

    with pytest.raises(ConfigError, match=r"--processes .*give a number from 1"):
        main(["--processes", number])


@pytest.mark.faults
def test_a_run_in_two_processes_by_the_flag_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = [*write_inputs(tmp_path, rounds=1), "--quiet"]
    runs = [tmp_path / "one", tmp_path / "two"]
    assert launch(1, ["run", *flags, "--shards", "2", "--out", str(runs[0])]) == 0
    assert launch(2, ["run", *flags, "--processes", "2", "--out", str(runs[1])]) == 0
    assert capfd.readouterr() == ("", "")
    assert outcome(runs[0]) == outcome(runs[1])
