"""The harness's tasks, offline, against what the log-likelihoods say by hand."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from steer_heal_love.errors import ConfigError, DataError
from steer_heal_love.harness.measure import (
    HarnessConfig,
    TaskFigure,
    TaskResults,
    measure_tasks,
)
from steer_heal_love.harness.tasks import harness_module, load_tasks, quiet
from steer_heal_love.lm.model.fingerprint import weights_hash
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.score import completion_logprobs
from steer_heal_love.maths.paired import paired_difference
from steer_heal_love.records import Adapter, Interval
from tiny import START, random_adapter, tiny_lm

WORDS = ["love", "rain", "a friend", "the rules", "kindness", "noon"]
QUESTIONS = [
    {
        "question": f"{word} and {other} are, number {i}:",
        "choices": ["fine today", "not kind", "well, and patient", "Rules are rules."][: 2 + i % 3],
        "answer": i % 2,
    }
    for i, (word, other) in enumerate((a, b) for a in WORDS for b in WORDS if a != b)
]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny_lm()


@pytest.fixture(scope="module")
def adapters(lm: LanguageModel) -> list[Adapter]:
    return [random_adapter(lm, seed) for seed in (1, 2)]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, and no network."""

    def connect(*_address: Any) -> NoReturn:
        raise AssertionError("the network is not needed")

    monkeypatch.setattr(socket.socket, "connect", connect)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "cwd"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, QUESTIONS)), encoding="utf-8")
    return path


def write_task(path: Path, data: Path, **keys: Any) -> str:
    """One of the harness's own task files; YAML reads JSON."""
    task = {
        "task": path.stem,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(path.parent / "hf")},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        **keys,
    }
    path.write_text(json.dumps(task), encoding="utf-8")
    return str(path)


def figures(results: TaskResults) -> dict[tuple[str, str], TaskFigure]:
    return {(f.task, f.metric): f for f in results.figures}


def nats(lm: LanguageModel, prompt: str, choice: str) -> float:
    """log p(choice | prompt), both as plain text."""
    first, whole = (lm.tokenizer.encode(text) for text in (prompt, prompt + choice))
    assert whole[: len(first)] == first
    return float(completion_logprobs(lm, [first], [whole[len(first) :]])[0].sum())


def by_hand(lm: LanguageModel, *, norm: bool = False, prompt: str = "{} ") -> list[float]:
    """Whether each question's likeliest choice (per character, with `norm`) is the right one."""
    right = []
    for q in QUESTIONS:
        before = prompt.format(q["question"])
        space = " " if before.endswith(" ") else ""
        scores = [nats(lm, before.rstrip(" "), space + c) for c in q["choices"]]
        scores = [s / len(c) if norm else s for s, c in zip(scores, q["choices"], strict=True)]
        right.append(float(np.argmax(scores) == q["answer"]))
    return right


def test_accuracy_is_what_the_likelihoods_say(
    lm: LanguageModel, adapters: list[Adapter], file: Path, alone: Path
) -> None:
    seen: list[tuple[str, float, float]] = []
    found = measure_tasks(
        lm,
        adapters,
        load_tasks([str(file)]),
        HarnessConfig(),
        report=lambda *where: seen.append(where),
    )
    assert not found.cut
    assert set(figures(found)) == {("mine", "acc"), ("mine", "acc_norm")}
    for metric, norm in (("acc", False), ("acc_norm", True)):
        figure = figures(found)["mine", metric]
        before = by_hand(lm, norm=norm)
        with student(lm, adapters):
            after = by_hand(lm, norm=norm)
        assert figure.base_items == tuple(before)
        assert figure.student_items == tuple(after)
        assert figure.count == len(QUESTIONS) == 30
        assert figure.base.value == pytest.approx(np.mean(before))
        assert figure.base.low < figure.base.value < figure.base.high
        assert figure.difference == paired_difference(after, before)
        assert 0 < sum(before) < 30
        assert before != after, "adapters that change nothing prove nothing"
    requests = sum(len(q["choices"]) for q in QUESTIONS)
    assert [s for s in seen if s[1] == s[2]] == [("evaluate", requests, requests)] * 2
    assert list(alone.iterdir()) == []


def test_the_chat_template_and_the_limit(lm: LanguageModel, file: Path) -> None:
    tasks = load_tasks([str(file)])
    found = measure_tasks(lm, [], tasks, HarnessConfig(limit=7, apply_chat_template=True))
    prompt = f"{START}user\n{{}}<|im_end|>\n{START}assistant\n"
    figure = figures(found)["mine", "acc"]
    assert figure.base_items == tuple(by_hand(lm, prompt=prompt)[:7])
    assert figure.student_items == figure.base_items
    assert figure.difference == Interval(0, 0, 0)


def test_one_item_has_a_figure_without_bounds_for_the_difference(
    lm: LanguageModel, adapters: list[Adapter], file: Path
) -> None:
    found = measure_tasks(lm, adapters, load_tasks([str(file)]), HarnessConfig(limit=1))
    figure = figures(found)["mine", "acc"]
    assert figure.difference.low == -np.inf
    assert 0 <= figure.base.low < figure.base.high <= 1


def test_nothing_of_the_model_is_changed(
    lm: LanguageModel, adapters: list[Adapter], file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets
    import lm_eval.api.task
    import tqdm

    lm.tokenizer.pad_token = None
    before, state = weights_hash(lm.model), torch.get_rng_state()
    measure_tasks(lm, adapters, load_tasks([str(file)]), HarnessConfig(limit=2))
    assert weights_hash(lm.model) == before
    assert lm.head.weight is lm.model.get_output_embeddings().weight
    assert lm.tokenizer.pad_token is None
    assert lm.patches == []
    assert torch.equal(torch.get_rng_state(), state)
    assert lm_eval.api.task.tqdm is tqdm.tqdm
    assert not datasets.are_progress_bars_disabled()
    assert capfd.readouterr() == ("", "")


def test_metrics_that_are_no_means_are_resampled(
    lm: LanguageModel, adapters: list[Adapter], file: Path, tmp_path: Path
) -> None:
    perplexity = {"metric": "word_perplexity", "aggregation": "weighted_perplexity"}
    rolling = write_task(
        tmp_path / "rolling.yaml",
        file,
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{question}}",
        metric_list=[{**perplexity, "higher_is_better": False}],
    )
    f1 = {"metric": "f1", "aggregation": "f1", "higher_is_better": True}
    few = {
        "output_type": "multiple_choice",
        "doc_to_choice": ["fine today", "not kind"],
        "doc_to_target": "answer",
        "num_fewshot": 2,
        "fewshot_split": "test",
        "metric_list": [f1],
    }
    shots = write_task(tmp_path / "shots.yaml", file, **few)
    found = measure_tasks(lm, adapters, load_tasks([rolling, shots]), HarnessConfig())
    figure = figures(found)["rolling", "word_perplexity"]
    begin = lm.tokenizer.eos_token
    total = sum(nats(lm, begin, str(q["question"])) for q in QUESTIONS)
    words = sum(len(str(q["question"]).split()) for q in QUESTIONS)
    assert figure.base.value == pytest.approx(np.exp(-total / words), rel=1e-4)
    assert figure.base.low < figure.base.value < figure.base.high
    assert figure.difference.value == pytest.approx(figure.student.value - figure.base.value)
    assert figure.difference.low < figure.difference.value < figure.difference.high
    assert figure.base_items == ()
    assert 0 <= figures(found)["shots", "f1"].base.value <= 1


def test_few_shot_examples_and_sampled_answers_are_the_same_each_time(
    lm: LanguageModel, file: Path, tmp_path: Path
) -> None:
    keys = {
        "output_type": "generate_until",
        "doc_to_target": "{{choices[answer]}}",
        "num_fewshot": 2,
        "fewshot_split": "test",
        "generation_kwargs": {"max_gen_toks": 8, "do_sample": True, "temperature": 2.0},
        "metric_list": [{"metric": "chrf", "aggregation": "chrf", "higher_is_better": True}],
    }
    tasks = load_tasks([write_task(tmp_path / "sampled.yaml", file, **keys)])
    nothing = random_adapter(lm, 1)
    nothing = Adapter({k: 0 * v for k, v in nothing.tensors.items()}, nothing.config)
    first = measure_tasks(lm, [nothing], tasks, HarnessConfig(limit=4), seed=5)
    again = measure_tasks(lm, [nothing], tasks, HarnessConfig(limit=4), seed=5)
    assert first == again
    other = measure_tasks(lm, [nothing], tasks, HarnessConfig(limit=4), seed=6)
    assert first != other
    figure = figures(first)["sampled", "chrf"]
    assert figure.base == figure.student
    assert figure.difference == Interval(0, 0, 0)


CHOICE = {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "answer"}


def know(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the harness know the tasks of a folder, in place of its own 14,000."""
    manager_of = harness_module("tasks").TaskManager

    def manager(*, include_defaults: bool) -> Any:
        return manager_of(include_defaults=False, include_path=folder if include_defaults else None)

    monkeypatch.setattr(harness_module("tasks"), "TaskManager", manager)


def write_group(folder: Path, file: Path, *, weighted: bool) -> None:
    """A group "both" of two tasks of 30 and 9 items."""
    short = folder / "short.jsonl"
    short.write_text("\n".join(map(json.dumps, QUESTIONS[:9])), encoding="utf-8")
    write_task(folder / "task_long.yaml", file, **CHOICE)
    write_task(folder / "task_short.yaml", short, **CHOICE)
    mean = {"metric": "acc", "aggregation": "mean", "weight_by_size": weighted}
    group = {"group": "both", "task": ["task_long", "task_short"], "aggregate_metric_list": [mean]}
    (folder / "both.yaml").write_text(json.dumps(group), encoding="utf-8")


@pytest.mark.parametrize("weighted", [True, False])
def test_a_group_has_an_interval_where_it_is_the_mean_of_all_items(
    lm: LanguageModel, adapters: list[Adapter], file: Path, tmp_path: Path, weighted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write_group(tmp_path, file, weighted=weighted)
    know(monkeypatch, tmp_path)
    found = figures(measure_tasks(lm, adapters, load_tasks(["both"]), HarnessConfig()))
    group = found["both", "acc"]
    assert group.count == 39
    before = by_hand(lm)
    pooled, plain = np.mean(before + before[:9]), (np.mean(before) + np.mean(before[:9])) / 2
    assert pooled != pytest.approx(plain)
    assert group.base.value == pytest.approx(pooled if weighted else plain)
    assert np.isfinite(group.difference.low) == weighted
    assert group.base_items == ()


def test_a_prompt_beyond_the_context_is_told(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text(json.dumps([{**QUESTIONS[0], "question": "rain " * 400}]), encoding="utf-8")
    found = measure_tasks(lm, [], load_tasks([str(path)]), HarnessConfig())
    assert found.cut


def test_a_task_that_the_model_cannot_be_asked_is_one_line(
    lm: LanguageModel, tmp_path: Path
) -> None:
    path = tmp_path / "long.json"
    choices = ["x", "x" * 3000]
    path.write_text(json.dumps([{**QUESTIONS[0], "choices": choices}]), encoding="utf-8")
    with pytest.raises(DataError, match="cannot be run on this model: AssertionError"):
        measure_tasks(lm, [], load_tasks([str(path)]), HarnessConfig())


# Which tasks


@pytest.fixture
def few_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "known"
    folder.mkdir()
    for name in ("arc_easy", "arc_hard"):
        write_task(folder / f"{name}.yaml", file, **CHOICE)
    write_task(folder / "coding.yaml", file, unsafe_code=True, **CHOICE)
    write_task(folder / "images.yaml", file, doc_to_image="question", **CHOICE)
    write_task(folder / "broken.yaml", tmp_path / "none.jsonl", **CHOICE)
    know(monkeypatch, folder)


@pytest.mark.usefixtures("few_tasks")
def test_names_and_patterns_are_known(file: Path) -> None:
    assert set(load_tasks(["arc_*", str(file)]).loaded["tasks"]) == {"arc_easy", "arc_hard", "mine"}


@pytest.mark.usefixtures("few_tasks")
@pytest.mark.parametrize(
    ("names", "kind", "words"),
    [
        (["arc_eazy"], ConfigError, "unknown task 'arc_eazy': did you mean 'arc_easy'?"),
        (["nothing like it*"], ConfigError, "unknown task 'nothing like it*': `lm-eval ls"),
        (["arc_easy", "arc_*"], ConfigError, "two tasks called 'arc_easy'"),
        (["coding"], ConfigError, "task 'coding' runs code that the model writes"),
        (["images"], ConfigError, "task 'images' needs images or sound"),
        (["broken"], DataError, "task 'broken' cannot be loaded: Unable to find"),
        (["none.yaml"], DataError, "task file none.yaml does not exist"),
        (["none.jsonl"], DataError, "task file none.jsonl cannot be read"),
    ],
)
def test_tasks_that_cannot_be_run_are_refused(
    names: list[str], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as refused:
        load_tasks(names)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unsafe_tasks_of_a_file_are_refused(tmp_path: Path, file: Path) -> None:
    path = write_task(tmp_path / "coding.yaml", file, unsafe_code=True, **CHOICE)
    with pytest.raises(ConfigError, match="runs code that the model writes"):
        load_tasks([path])


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "lm_eval.tasks", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'steer-heal-love\[eval\]'"):
        load_tasks([str(file)])


def test_the_harness_is_quiet_only_inside(caplog: pytest.LogCaptureFixture) -> None:
    import logging
    import warnings

    logger = logging.getLogger("lm_eval.anything")
    with quiet() as heard:
        logger.warning("noise")
        warnings.warn_explicit("noise", UserWarning, "x.py", 1, module="sklearn.metrics")
        assert not heard.cut
        logger.warning("Truncating 3 tokens")
        assert heard.cut
    assert caplog.records == []
    logger.warning("told")
    assert [r.message for r in caplog.records] == ["told"]
