"""Tasks of the lm-evaluation-harness on base and student: the same items, so that they pair."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pydantic import Field

from steer_heal_love.errors import DataError
from steer_heal_love.harness.tasks import Report, Tasks, harness_module, quiet
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.quiet import first_line
from steer_heal_love.lm.patches.adapters import base, student
from steer_heal_love.maths.paired import Items, known, paired_difference, percentile_interval
from steer_heal_love.maths.statistics import bootstrap_mean, proportion_interval
from steer_heal_love.records import Adapter, Interval
from steer_heal_love.stages.settings import StageConfig

RESAMPLES = 500  # of a metric that is no mean over items; some take a second to aggregate once


class HarnessConfig(StageConfig):
    """How the harness's tasks are run."""

    limit: int | None = Field(None, ge=1)
    """Of each task in --tasks only the first so many items; by default all."""
    batch_size: int = Field(4, ge=1)
    """Prompts of --tasks in flight at a time: more is faster and takes more memory."""
    apply_chat_template: bool = False
    """Ask what --tasks ask in the model's chat template, not as plain text."""


@dataclass(frozen=True)
class TaskFigure:
    """One metric of one task (or group of tasks), in the metric's unit, with 95 % intervals.

    Bounds are infinite where an interval cannot be had. The values per item are in the same order
    for both models; there are none where the metric is no mean over items.
    """

    task: str
    metric: str
    count: int  # items
    base: Interval
    student: Interval
    difference: Interval  # student − base, paired over the items
    base_items: tuple[float | None, ...] = ()
    student_items: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class TaskResults:
    """What the tasks found."""

    figures: tuple[TaskFigure, ...]
    cut: bool  # some prompt exceeded the model's context and lost its beginning


@dataclass(frozen=True)
class _Scored:
    """One metric of one task under one model."""

    items: dict[str, Any]  # by the hash of the item: a number, or whatever the metric aggregates
    value: float  # the harness's own aggregate


def measure_tasks(
    lm: LanguageModel,
    adapters: Sequence[Adapter],
    tasks: Tasks,
    config: HarnessConfig,
    *,
    seed: int = 0,
    report: Report = lambda _stage, _done, _total: None,
) -> TaskResults:
    """Every metric of the tasks, on the base model and with these adapters on, item by item.

    The harness computes on the model that is loaded. Without adapters both are one, run once.

    Args:
        seed: of few-shot examples, and of answers where a task samples them.

    Raises:
        DataError: the harness cannot run a task on this model, or its items differ between runs.
    """
    tokenizer = copy.deepcopy(lm.tokenizer)  # it may be given a padding token
    tokenizer.apply_chat_template = lm.template.renders(tokenizer.apply_chat_template, answers=True)
    with quiet(report) as heard:
        model = harness_module("models.huggingface").HFLM(
            pretrained=lm.model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=config.batch_size,
        )
        with base(lm):
            before = _evaluate(model, lm, tasks, config, seed)
        after = before
        if adapters:
            with student(lm, adapters):
                after = _evaluate(model, lm, tasks, config, seed)
        figures = (*_task_figures(tasks, before, after), *_group_figures(tasks, before, after))
    return TaskResults(figures, heard.cut)


def _evaluate(
    model: Any, lm: LanguageModel, tasks: Tasks, config: HarnessConfig, seed: int
) -> Mapping[str, Any]:
    """The harness's results on the model as it is patched now, with the samples behind them."""
    for task in tasks.loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)  # each time anew: the same examples for every model
    devices = [lm.device] if lm.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            results: Mapping[str, Any] = harness_module("evaluator").evaluate(
                lm=model,
                task_dict=tasks.loaded,
                limit=config.limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=config.apply_chat_template,
                fewshot_as_multiturn=config.apply_chat_template,
            )
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = first_line(error)
            raise DataError(f"the tasks cannot be run on this model: {reason}") from error
    return results


def _task_figures(
    tasks: Tasks, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[TaskFigure]:
    for name, task in tasks.loaded["tasks"].items():
        theirs, own = _scored(before, name), _scored(after, name)
        for metric, scored in theirs.items():
            if metric in own:
                aggregate = task.aggregation().get(metric.partition(",")[0], np.mean)
                yield _figure(name, metric, aggregate, scored, own[metric])


def _scored(results: Mapping[str, Any], task: str) -> dict[str, _Scored]:
    """The metrics of a task that are numbers, by the harness's name: "metric,filter"."""
    by_metric: dict[str, dict[str, Any]] = {}
    for sample in results["samples"][task]:
        for metric in sample["metrics"]:
            items = by_metric.setdefault(f"{metric},{sample['filter']}", {})
            items[f"{sample['doc_id']} {sample['doc_hash']}"] = sample[metric]
    values = {name: results["results"][task].get(name) for name in by_metric}
    return {n: _Scored(by_metric[n], float(v)) for n, v in values.items() if _is_number(v)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def _figure(
    task: str, metric: str, aggregate: Callable[[Any], Any], theirs: _Scored, own: _Scored
) -> TaskFigure:
    """A metric with its intervals: over the items' mean, or by resampling what it aggregates."""
    if theirs.items.keys() != own.items.keys():
        raise DataError(f"task {task!r} draws other items each time: nothing can be paired")
    before, after = ([s.items[key] for key in own.items] for s in (theirs, own))
    name, count = _shown(metric), len(own.items)
    if not (_is_mean(before, theirs.value) and _is_mean(after, own.value)):
        x, y, difference = _resampled(aggregate, before, after, theirs.value, own.value)
        return TaskFigure(task, name, count, x, y, difference)
    x, y = _mean(before), _mean(after)
    difference = paired_difference(after, before) or _unbounded(own.value - theirs.value)
    items = tuple(map(float, before)), tuple(map(float, after))
    return TaskFigure(task, name, count, x, y, difference, *items)


def _shown(metric: str) -> str:
    """The harness's "metric,filter" for people."""
    return metric.removesuffix(",none").replace(",", ", ")


def _is_mean(items: Sequence[Any], value: float) -> bool:
    """Whether the harness's value is the mean of the items: not so for F1, perplexity, BLEU, …"""
    if not items or not all(map(_is_number, items)) or len(known(items)) < len(items):
        return False
    return math.isclose(float(np.mean(items)), value, rel_tol=1e-6, abs_tol=1e-9)


def _mean(items: Items) -> Interval:
    values = known(items)
    if set(values) <= {0.0, 1.0}:  # right or wrong: Wilson's is honest also where all are right
        return proportion_interval(round(sum(values)), len(values))
    return bootstrap_mean(values)


def _resampled(
    aggregate: Callable[[Any], Any],
    before: Sequence[Any],
    after: Sequence[Any],
    theirs: float,
    own: float,
) -> tuple[Interval, Interval, Interval]:
    """Base, student and their difference by resampling the items in pairs, percentiles, 95 %."""
    rng = np.random.default_rng(0)
    drawn = np.full((2, RESAMPLES), math.nan)
    for k in range(RESAMPLES):
        chosen = rng.integers(0, len(before), len(before))
        for row, items in zip(drawn, (before, after), strict=True):
            try:
                row[k] = aggregate([items[i] for i in chosen])
            except (ValueError, ArithmeticError):
                continue  # not defined on these items, say because a class is missing: NaN
    x, y = percentile_interval(theirs, drawn[0]), percentile_interval(own, drawn[1])
    return x, y, percentile_interval(own - theirs, drawn[1] - drawn[0])


def _group_figures(
    tasks: Tasks, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[TaskFigure]:
    """Groups that have a value of their own; with intervals where it is the mean of all items."""
    for name, values in before.get("groups", {}).items():
        leaves = [task.task_name for task in tasks.loaded["groups"][name].get_all_tasks()]
        for metric in [key for key in values if "," in key and _is_number(values[key])]:
            theirs, own = (_pooled(r, name, leaves, metric) for r in (before, after))
            if all(_is_mean([*s.items.values()], s.value) for s in (theirs, own)):
                pooled = _figure(name, metric, np.mean, theirs, own)
                yield replace(pooled, base_items=(), student_items=())  # the tasks have them
                continue
            x, y = _unbounded(theirs.value), _unbounded(own.value)
            difference = _unbounded(own.value - theirs.value)
            yield TaskFigure(name, _shown(metric), len(own.items), x, y, difference)


def _pooled(results: Mapping[str, Any], group: str, tasks: Sequence[str], metric: str) -> _Scored:
    """A group's value, with the items of all its tasks."""
    scored = {task: _scored(results, task).get(metric) for task in tasks}
    there = {task: one.items for task, one in scored.items() if one is not None}
    items = {f"{task} {key}": item for task, rows in there.items() for key, item in rows.items()}
    return _Scored(items, float(results["groups"][group][metric]))


def _unbounded(value: float) -> Interval:
    return Interval(value, -math.inf, math.inf)
