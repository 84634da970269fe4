"""tiny-mfv's own package, by fakes of the signatures that its versions have."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from steer_heal_love.errors import ConfigError, DataError, DivergedError
from steer_heal_love.inputs.vignettes import FOUNDATIONS, Vignette
from steer_heal_love.stages.instruments.mfv_package import find_package, measure_with_package
from tiny import tiny_lm

SHARES = (0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0)
VIGNETTES = [
    Vignette("a", "You see one.", "care", SHARES),
    Vignette("b", "You see two.", "social"),
    Vignette("c", "You see three.", "liberty"),
]
# The package's order need not be ours.
ORDER = FOUNDATIONS[::-1]


class Calls(list[dict[str, Any]]):
    """The calls of a fake `evaluate`, by keyword."""


def per_row(tokenizer: Any, vignettes: list[dict[str, Any]], masses: bool) -> list[dict[str, Any]]:
    """Rows of a report: 0.7 on the vignette's own foundation."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    rows = []
    for i, vignette in enumerate(vignettes):
        name = vignette["foundation_coarse"].lower().removesuffix("norms")
        p = np.array([0.7 if f == name else 0.05 for f in ORDER])
        row = {"id": vignette["id"], "condition": "other_violate", "p": p, "top1": name}
        rows.append(row | ({"pmass_allowed": 0.9 + 0.01 * i} if masses else {}))
    return rows


def moralmaps(calls: Calls) -> ModuleType:
    """The newer generation: github.com/wassname/moral-maps."""

    def evaluate(
        model: Any,
        tokenizer: Any,
        name: str = "classic",
        vignettes: list[dict[str, Any]] | None = None,
        *,
        n_vignettes: int | None = None,
        conditions: tuple[str, ...] = ("other_violate",),
        max_think_tokens: int = 64,
        n_samples: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        skip_special_tokens: bool = False,
        batch_size: int = 8,
        device: str | None = None,
        return_per_row: bool = False,
        verbose: int = 1,
    ) -> dict[str, Any]:
        assert vignettes is not None
        calls.append(locals())
        return {"per_row": per_row(tokenizer, vignettes, True), "top1_acc": 1.0}

    return _module("moralmaps", evaluate)


def tinymfv(calls: Calls) -> ModuleType:
    """The older generation: github.com/wassname/tinymfv, before it reported the mass."""

    def evaluate(
        model: Any,
        tokenizer: Any,
        name: str = "classic",
        vignettes: list[dict[str, Any]] | None = None,
        *,
        conditions: tuple[str, ...] = ("other_violate", "self_violate"),
        max_think_tokens: int = 256,
        batch_size: int = 8,
        device: str | None = None,
        return_per_row: bool = False,
    ) -> dict[str, Any]:
        assert vignettes is not None
        calls.append(locals())
        return {"per_row": per_row(tokenizer, vignettes, False), "mean_js": 0.1}

    return _module("tinymfv", evaluate)


def _module(name: str, evaluate: Any) -> ModuleType:
    module = ModuleType(name)
    module.evaluate = evaluate  # type: ignore[attr-defined]
    module._DEFAULT_FORCED_FOUNDATIONS = ORDER  # type: ignore[attr-defined]
    return module


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither package, whatever this machine has."""
    for name in ("moralmaps", "tinymfv"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Absent(), *sys.meta_path])


class _Absent:
    def find_spec(self, name: str, *_: Any) -> None:
        if name in ("moralmaps", "tinymfv"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def install(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("generation", [moralmaps, tinymfv])
def test_both_generations_give_our_record(generation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, lm = Calls(), tiny_lm()
    install(monkeypatch, generation(calls))
    side, pad = lm.tokenizer.padding_side, lm.tokenizer.pad_token
    found = measure_with_package(lm, VIGNETTES)
    assert (lm.tokenizer.padding_side, lm.tokenizer.pad_token) == (side, pad)
    assert found.items["p_care"] == pytest.approx((0.7, 0.05, 0.05))
    assert found.items["p_social"] == pytest.approx((0.05, 0.7, 0.05))
    assert found.value("top1_accuracy") == 1
    assert ("p_ans_any" in found.figures) == (generation is moralmaps)
    (call,) = calls
    assert call["model"] is lm.model
    assert call["conditions"] == ("other_violate",)
    assert call["max_think_tokens"] == 1
    assert call["vignettes"][0]["other_violate"] == "You see one."
    assert call["vignettes"][0]["human_Care"] == pytest.approx(50)
    assert call["vignettes"][1]["foundation_coarse"] == "SocialNorms"
    assert "human_Care" not in call["vignettes"][1]


def test_the_newer_package_is_taken_where_both_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for generation in (tinymfv, moralmaps):
        install(monkeypatch, generation(Calls()))
    assert find_package().name == "moralmaps"


def test_neither_is_installed() -> None:
    with pytest.raises(ConfigError, match=r"`pip install git\+https://github.com/wassname/"):
        measure_with_package(tiny_lm(), VIGNETTES)


def test_a_package_whose_own_dependency_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "moralmaps":
                raise ModuleNotFoundError("No module named 'loguru'", name="loguru")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ConfigError, match="loguru"):
        find_package()


def test_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(model: Any, tokenizer: Any, name: str = "", batch_size: int = 16) -> Any:
        """The first version: yes or no, not a choice."""

    install(monkeypatch, _module("tinymfv", evaluate))
    with pytest.raises(ConfigError, match="another version"):
        find_package()
    monkeypatch.delattr(sys.modules["tinymfv"], "evaluate")
    with pytest.raises(ConfigError, match="another version"):
        find_package()


def test_other_foundations(monkeypatch: pytest.MonkeyPatch) -> None:
    module = moralmaps(Calls())
    module._DEFAULT_FORCED_FOUNDATIONS = ("care", "purity")  # type: ignore[attr-defined]
    install(monkeypatch, module)
    with pytest.raises(ConfigError, match="other foundations"):
        find_package()


def test_rows_that_are_not_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    module = moralmaps(Calls())
    real = module.evaluate
    module.evaluate = (
        lambda *a, vignettes, conditions, return_per_row: real(  # type: ignore[attr-defined]
            *a, vignettes=vignettes[:2]
        )
    )
    install(monkeypatch, module)
    with pytest.raises(DataError, match="other vignettes"):
        measure_with_package(tiny_lm(), VIGNETTES)


def test_unscorable_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    module = moralmaps(Calls())
    real = module.evaluate
    broken = {1}

    def evaluate(
        *args: Any, vignettes: Any, conditions: Any, return_per_row: bool
    ) -> dict[str, Any]:
        report: dict[str, Any] = real(*args, vignettes=vignettes)
        for i in broken:
            report["per_row"][i] |= {"p": np.full(7, np.nan), "pmass_allowed": np.nan}
        return report

    module.evaluate = evaluate  # type: ignore[attr-defined]
    install(monkeypatch, module)
    found = measure_with_package(tiny_lm(), VIGNETTES)
    assert found.items["p_care"][1] is None
    assert found.items["p_ans_any"][1] is None
    broken |= {0, 2}
    with pytest.raises(DivergedError):
        measure_with_package(tiny_lm(), VIGNETTES)
