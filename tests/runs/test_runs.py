"""The run directory: created whole or not at all, every piece sound or computed again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuzz import FUZZ, refusal
from steer_heal_love.errors import AxisError, RunError, RunInUse
from steer_heal_love.lm.patches.adapters import stack
from steer_heal_love.records import Answer, Baseline, Direction, Interval, Measurement
from steer_heal_love.runs.as_json import pack_direction
from steer_heal_love.runs.codec import to_json_lines
from steer_heal_love.runs.files import SPARE_BYTES
from steer_heal_love.runs.manifest import SCHEMA
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.read_adapter import read_adapter
from steer_heal_love.runs.read_files import read_direction, read_lines
from steer_heal_love.runs.write import RunDirectory
from tiny import random_adapter, tiny_lm
from tiny_run import small_axis

AXIS = small_axis()


def create(path: Path) -> RunDirectory:
    return RunDirectory.create(path, {"rounds": 2, "heal": {"tau": 1.0, "x": None}}, AXIS, {})


def measurement(trait: float = 0.5) -> Measurement:
    answer = Answer("base", "greedy", "p", "te", ("t", "e"), (0.1, float("inf")), False, True, ())
    return Measurement(
        {"trait_nats": Interval(trait, float("-inf"), float("inf"))},
        {"trait_nats": (trait, None)},
        (answer,),
    )


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_run_is_created_with_what_it_was_asked_for(tmp_path: Path) -> None:
    run = create(tmp_path / "new/run")
    assert names(run.path) == ["axis.toml", "config.toml", "environment.json", "manifest.json"]
    view = read_run(run.path)
    assert view.axis == AXIS
    assert view.config == {"rounds": 2, "heal": {"tau": 1.0}}
    assert view.metrics == {}
    assert run.problems() == []


def test_a_path_that_exists_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("precious")
    with pytest.raises(RunError, match=r"exists already: .*shl resume"):
        create(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "precious"


def test_a_path_that_appears_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda _self: False)
        with pytest.raises(RunError):
            create(tmp_path / "run")
    assert read_run(tmp_path / "run").axis == AXIS
    assert names(tmp_path)[0] == "run"
    assert RunDirectory(tmp_path / "run").problems() == []


@pytest.mark.parametrize("nth", range(12))
def test_a_run_that_cannot_be_created_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    calls = []
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > nth:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(RunError, match="disk is full"):
            create(tmp_path / "a/b/run")
    assert names(tmp_path) == []


def test_a_piece_is_computed_once(tmp_path: Path) -> None:
    run, calls = create(tmp_path / "run"), []

    def compute() -> dict[str, Any]:
        calls.append(1)
        return {"x": torch.ones(2), "y": (1, 0.1)}

    one, two = run.do("rounds/00/x", compute), RunDirectory(run.path).do("rounds/00/x", compute)
    assert len(calls) == 1
    assert torch.equal(one["x"], two["x"])
    assert one["y"] == two["y"] == (1, 0.1)


@pytest.mark.parametrize("how", ["cut", "emptied", "flipped", "deleted", "another version's"])
def test_a_broken_piece_is_named_and_computed_again(tmp_path: Path, how: str) -> None:
    run = create(tmp_path / "run")
    run.do("a/b", lambda: [1, 2, 3])
    run.do("a/c", lambda: 0)
    file = run.path / "work/a/b.safetensors"
    data = file.read_bytes()
    match how:
        case "cut":
            file.write_bytes(data[:-3])
        case "emptied":
            file.write_bytes(b"")
        case "flipped":
            file.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
        case "deleted":
            file.unlink()
        case _:
            run.write_bytes("work/a/b.safetensors", b"of another form")
    run = RunDirectory(run.path)
    assert run.do("a/b", lambda: [4]) == [4]
    assert RunDirectory(run.path).do("a/b", lambda: [5]) == [4]
    assert run.problems() == []
    (event,) = read_run(run.path).events()
    assert event["event"] == "broken-piece"
    assert "work/a/b.safetensors" in event["problem"]


def test_a_broken_manifest_means_that_everything_is_computed_again(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    run.do("a/b", lambda: [1])
    (run.path / "manifest.json").write_bytes(b"{}")
    assert RunDirectory(run.path).do("a/b", lambda: [2]) == [2]


def test_pieces_are_forgotten(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    for name in ("heal/epoch-00", "heal/epoch-01", "heal/result"):
        run.do(name, lambda: 1)
    run.forget("heal/epoch-")
    run.forget("heal/epoch-")
    assert names(run.path / "work/heal") == ["result.safetensors"]
    assert run.problems() == []


def test_the_baseline_is_recorded(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    baseline = Baseline(measurement(0.1), measurement(0.2), measurement(-0.2))
    run.record_baseline(baseline, {"axis": "kind"})
    view = read_run(run.path)
    assert view.metrics["schema"] == SCHEMA
    assert view.metrics["base"]["trait_nats"] == 0.1
    assert view.metrics["base"]["intervals"]["trait_nats"] == [None, None]  # no Infinity in JSON
    assert view.items()["prompt_neg"]["trait_nats"] == [-0.2, None]
    assert view.answers(None)[0] == measurement().answers[0]
    assert view.answers(3) == []


def test_rounds_stay_on_view_while_a_run_goes_on_but_only_where_they_are_sound(
    tmp_path: Path,
) -> None:
    run = create(tmp_path / "run")
    baseline = Baseline(measurement(), measurement(), measurement())
    run.record_baseline(baseline, {})
    run.write_json("metrics.json", {**run.metrics(), "rounds": [{"round": 0}]})
    run.record_baseline(baseline, {})
    assert run.metrics()["rounds"] == [{"round": 0}]
    file = run.path / "metrics.json"
    file.write_text(file.read_text().replace('"round": 0', '"round": 7'))
    run.record_baseline(baseline, {})
    assert run.metrics()["rounds"] == []


def test_one_process_holds_a_run(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    in_use = f"in use by process {os.getpid()}"
    with run.locked(), pytest.raises(RunInUse, match=in_use), run.locked():
        pass
    with run.locked():
        pass
    (run.path / "lock").write_bytes(b"\x1b[31mnot a number")
    with run.locked():
        pass


def test_a_run_whose_folder_is_gone_cannot_be_held(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    run.path.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is gone: it was moved"), run.locked():
        pass


def test_a_folder_that_is_moved_away_is_not_made_again(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    with run.locked():
        run.path.rename(tmp_path / "elsewhere")
        for act in (
            lambda: run.do("a/b", lambda: 1),
            lambda: run.event("x"),
            lambda: run.write_json("metrics.json", {}),
            lambda: run.adopt_pages([]),
        ):
            with pytest.raises(RunError, match="is gone: it was moved"):
                act()
    assert names(tmp_path)[0] == "elsewhere"
    assert RunDirectory(tmp_path / "elsewhere").problems() == []


@pytest.mark.parametrize("inside", ["work", "lock", "rounds"])
def test_a_link_in_a_strangers_run_is_not_followed(tmp_path: Path, inside: str) -> None:
    precious = tmp_path / "models"
    precious.mkdir()
    (precious / "model.safetensors").write_bytes(b"precious")
    (precious / "model").write_bytes(b"precious")
    run = create(tmp_path / "run")
    (run.path / inside).symlink_to(precious if inside != "lock" else precious / "model")
    with pytest.raises(RunError, match=f"{inside} is a link"), run.locked():
        pass
    assert {p.read_bytes() for p in precious.iterdir()} == {b"precious"}
    assert len(list(precious.iterdir())) == 2


def test_a_disk_that_is_nearly_full_stops_a_run_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, computed = create(tmp_path / "run"), []
    usage = shutil.disk_usage(tmp_path)
    free = {"free": SPARE_BYTES + 10_000}
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(**free))
    run.do("a", lambda: torch.zeros(100))
    with pytest.raises(RunError, match="MiB are free on that disk"):
        run.do("b", lambda: computed.append(1) or torch.zeros(10_000))
    assert computed == [1]  # it is too large for what is left
    free["free"] = SPARE_BYTES - 1
    with pytest.raises(RunError, match="MiB are free on that disk"):
        run.do("c", lambda: computed.append(2))
    assert computed == [1]
    assert RunDirectory(run.path).problems() == []
    assert run.do("a", lambda: None).shape == (100,)  # reading needs no room


@pytest.mark.parametrize("nth", range(1, 17))
def test_a_signal_inside_a_write_leaves_a_sound_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    run = create(tmp_path / "run")
    run.write_json("metrics.json", {"rounds": [1]})
    moments = {"left": nth}
    fsync, replace = os.fsync, Path.replace

    def tick() -> None:
        moments["left"] -= 1
        if moments["left"] == 0:
            raise KeyboardInterrupt

    def synced(descriptor: int) -> None:
        tick()
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        tick()
        found = replace(self, target)
        tick()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", synced)
        patch.setattr(Path, "replace", renamed)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            run.do("a/new", lambda: 1)
            run.write_json("metrics.json", {"rounds": [1, 2]})
    run.event("interrupted")
    run.adopt_pages([])
    assert run.problems() == RunDirectory(run.path).problems() == []
    assert RunDirectory(run.path).do("a/new", lambda: 1) == 1


def of_schema(run: RunDirectory, file: str, schema: int) -> None:
    """Put another number in a file of the run, as another version would have."""
    text = (run.path / file).read_text("utf-8")
    assert f'"schema": {SCHEMA}' in text
    (run.path / file).write_text(
        text.replace(f'"schema": {SCHEMA}', f'"schema": {schema}'), "utf-8"
    )


@pytest.mark.parametrize("file", ["manifest.json", "metrics.json"])
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (SCHEMA + 1, rf"newer version \(schema {SCHEMA + 1}.*upgrade"),
        (SCHEMA - 1, rf"older version \(schema {SCHEMA - 1}.*begin another run"),
    ],
)
def test_a_run_of_another_schema_is_refused_and_left_as_it_is(
    tmp_path: Path, file: str, schema: int, words: str
) -> None:
    run = create(tmp_path / "run")
    run.write_json("metrics.json", {"schema": SCHEMA, "rounds": []})
    of_schema(run, file, schema)
    files = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    for damaged_ok in (False, True):
        with pytest.raises(RunError, match=words):
            read_run(run.path, damaged_ok=damaged_ok)
    if file == "manifest.json":
        with pytest.raises(RunError, match=words):
            RunDirectory(run.path)
    assert {p: p.read_bytes() for p in files} == files


def test_what_a_killed_process_left_behind_is_swept(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    run.do("a/known", lambda: 1)
    (run.path / "work/a/unknown.safetensors").write_bytes(b"x")
    (run.path / "work/a/.known.safetensors.partial").write_bytes(b"x")
    with run.locked():
        assert names(run.path / "work/a") == ["known.safetensors"]


def test_changed_settings_are_refused(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    run.check_foundations()
    for name in ("config.toml", "axis.toml"):
        file = run.path / name
        data = file.read_bytes()
        file.write_bytes(data + b"\n")
        with pytest.raises(RunError, match=f"{name}: .* restore that file"):
            RunDirectory(run.path).check_foundations()
        file.write_bytes(data)


def test_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a run directory \(no config.toml\)"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "5",
        "{",
        '{"schema": "1"}',
        '{"rounds": 5}',
        '{"rounds": [5]}',
        '{"rounds": [{}]}',
        '{"rounds": [{"round": "../x"}]}',
        '{"rounds": [{"round": -1}]}',
        "[" * 99_999,
        "1" * 5000,
    ],
)
def test_broken_metrics_are_refused(tmp_path: Path, text: str) -> None:
    run = create(tmp_path / "run")
    (run.path / "metrics.json").write_text(text)
    with pytest.raises(RunError, match=r"metrics\.json is broken"):
        read_run(run.path)


@pytest.mark.parametrize("name", ["config.toml", "axis.toml"])
@pytest.mark.parametrize(
    "data", [b"\xff", b"x = ", b"x = " + b"1" * 5000, b"x = " + b"[" * 9999, b"#" * 5_000_000]
)
def test_broken_foundations_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    run = create(tmp_path / "run")
    (run.path / name).write_bytes(data)
    with pytest.raises((RunError, AxisError), match=name):
        read_run(run.path)


def test_a_torn_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    run.event("one", text="Liebe ❤ \ud800 \u2028", number=float("nan"))
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "to')
    run.event("two")
    events = read_run(run.path).events()
    assert [e["event"] for e in events] == ["one", "two"]
    assert events[0]["number"] is None


@pytest.mark.parametrize("line", [b"{", b"5", b"[]", b"\xff", b"[" * 9999])
def test_a_broken_line_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\n\n' + line + b"\n")
    with pytest.raises(RunError, match=r"x\.jsonl, line 3"):
        read_lines(tmp_path / "x.jsonl")
    assert read_lines(tmp_path / "x.jsonl", torn_ok=True) == [{"a": 1}]


def test_a_file_that_is_far_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer_heal_love.runs.read_files.MAX_JSON_BYTES", 10)
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1234567}\n')
    with pytest.raises(RunError, match="larger than 10 bytes"):
        read_lines(tmp_path / "x.jsonl")


@pytest.mark.parametrize("row", ["{}", '{"tokens": 5}', '{"tokens": [], "surprise_nats": [{}]}'])
def test_an_answer_of_another_form_is_refused(tmp_path: Path, row: str) -> None:
    run = create(tmp_path / "run")
    run.write_text("baseline/answers.jsonl", row + "\n")
    with pytest.raises(RunError, match=r"answers\.jsonl is broken"):
        read_run(run.path).answers(None)


def test_a_direction_survives(tmp_path: Path) -> None:
    direction = Direction((2, 11, 3), torch.randn(3, 8))
    (tmp_path / "d").write_bytes(pack_direction(direction))
    found = read_direction(tmp_path / "d")
    assert found.layers == (2, 3, 11)
    assert torch.equal(found.vectors, direction.vectors[[0, 2, 1]])


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"layer.x": torch.ones(2)},
        {"layer.1": torch.ones(2), "layer.2": torch.ones(3)},
        {"layer.1": torch.ones(2, 2)},
        {"layer.1": torch.full((2,), float("nan"))},
    ],
)
def test_a_broken_direction_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    safetensors.torch.save_file(tensors, tmp_path / "d")
    with pytest.raises(RunError, match="missing or broken"):
        read_direction(tmp_path / "d")
    with pytest.raises(RunError, match="missing or broken"):
        read_direction(tmp_path / "nothing")


def write_adapter(folder: Path, config: Any = None, **tensors: torch.Tensor | None) -> Path:
    adapter = random_adapter(tiny_lm(), targets=("q_proj",))
    folder.mkdir(exist_ok=True)
    stored = {k: v for k, v in ({**adapter.tensors, **tensors}).items() if v is not None}
    safetensors.torch.save_file(stored, folder / "adapter_model.safetensors")
    content = {**adapter.config, **config} if isinstance(config, dict) else adapter.config
    text = config if isinstance(config, str) else json.dumps(dict(content))
    (folder / "adapter_config.json").write_text(text)
    return folder


def test_an_adapter_is_read(tmp_path: Path) -> None:
    assert stack([read_adapter(write_adapter(tmp_path / "a"))])


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        "{}",
        {"r": 0},
        {"r": "3"},
        {"r": 4},
        {"r": True},
        {"lora_alpha": None},
        {"lora_alpha": float("nan")},
        {"lora_alpha": "6"},
    ],
)
def test_a_broken_adapter_config_is_refused(tmp_path: Path, config: Any) -> None:
    with pytest.raises(RunError, match="adapter"):
        read_adapter(write_adapter(tmp_path / "a", config))


@pytest.mark.parametrize(
    "tensor", [torch.ones(3), torch.ones(5, 32), torch.full((3, 32), float("inf"))]
)
def test_broken_adapter_weights_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    folder = write_adapter(tmp_path / "a", **{"base_model.model.x.lora_A.weight": tensor})
    with pytest.raises(RunError, match="adapter"):
        read_adapter(folder)


def test_pickled_adapters_are_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    torch.save({"x": torch.ones(1)}, folder / "adapter_model.bin")
    weights.unlink()
    with pytest.raises(RunError, match="pickled adapters are refused"):
        read_adapter(folder)
    (folder / "adapter_model.bin").rename(weights)
    with pytest.raises(RunError, match="is broken"):
        read_adapter(folder)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create(tmp_path_factory.mktemp("fuzz") / "run").path


def mutated(data: bytes, draw: st.DataObject) -> bytes:
    """The bytes with a few of them changed, cut out or doubled."""
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(data)))
        to = draw.draw(st.integers(at, min(len(data), at + 20)))
        data = data[:at] + draw.draw(st.binary(max_size=4) | st.just(data[at:to] * 2)) + data[to:]
    return data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["schema", "rounds", "round", "items", "base", "x"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@FUZZ
@given(
    json_values | st.binary(max_size=60), st.sampled_from(["metrics.json", "baseline/metrics.json"])
)
def test_any_metrics_are_read_or_refused(fuzzed: Path, value: Any, name: str) -> None:
    file = fuzzed / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())

    def read() -> None:
        view = read_run(fuzzed)
        view.items()
        view.answers(0)

    assert "\n" not in refusal(read)
    file.unlink()


@FUZZ
@given(st.data())
def test_any_log_is_read(fuzzed: Path, draw: st.DataObject) -> None:
    (fuzzed / "events.jsonl").write_bytes(mutated(b'{"event": "a"}\n{"event": "b"}\n', draw))
    assert all(isinstance(e, dict) for e in read_run(fuzzed).events())


@pytest.fixture(scope="module")
def adapter_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    folder = write_adapter(tmp_path_factory.mktemp("adapter"))
    weights = (folder / "adapter_model.safetensors").read_bytes()
    return folder, weights, (folder / "adapter_config.json").read_bytes()


@FUZZ
@given(st.data(), st.booleans())
def test_any_adapter_is_read_or_refused(
    adapter_files: tuple[Path, bytes, bytes], draw: st.DataObject, of_config: bool
) -> None:
    folder, weights, config = adapter_files
    if of_config:
        config = mutated(config, draw)
    else:
        head, body = weights[:900], weights[900:]
        weights = mutated(head, draw) + body
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_bytes(config)
    assert "\n" not in refusal(lambda: stack([read_adapter(folder)]))


@FUZZ
@given(st.data())
def test_any_direction_is_read_or_refused(fuzzed: Path, draw: st.DataObject) -> None:
    data = pack_direction(Direction((2, 3), torch.ones(2, 8)))
    (fuzzed / "d").write_bytes(mutated(data, draw))
    assert "\n" not in refusal(lambda: read_direction(fuzzed / "d"))


@FUZZ
@given(st.data())
def test_any_settings_of_a_run_are_read_or_refused(fuzzed: Path, draw: st.DataObject) -> None:
    file = fuzzed / "config.toml"
    data = file.read_bytes()
    file.write_bytes(mutated(data, draw))
    said = refusal(lambda: read_run(fuzzed))
    file.write_bytes(data)
    assert not said or "config.toml" in said


@FUZZ
@given(st.data())
def test_any_answers_are_read_or_refused(fuzzed: Path, draw: st.DataObject) -> None:
    row = to_json_lines([asdict(measurement().answers[0])]).encode()
    (fuzzed / "baseline").mkdir(exist_ok=True)
    (fuzzed / "baseline/answers.jsonl").write_bytes(mutated(row, draw))
    said = refusal(lambda: read_run(fuzzed).answers(None))
    assert not said or "answers.jsonl" in said
