"""The forced choice as tiny-mfv's own package measures it, so that ours can be checked by theirs.

The package is `moralmaps` (github.com/wassname/moral-maps) or, as it was called before, `tinymfv`
(github.com/wassname/tinymfv). Both have `evaluate(model, tokenizer, name, vignettes, …)`, which
returns one row a vignette where it is asked for `return_per_row`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from steer_heal_love.errors import ConfigError, DataError
from steer_heal_love.inputs.vignettes import COARSE, FOUNDATIONS, Vignette
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.template import with_system
from steer_heal_love.records import Measurement
from steer_heal_love.stages.instruments.profile import profile_measurement

MODULES = ("moralmaps", "tinymfv")  # the newer first
INSTALL = "pip install git+https://github.com/wassname/moral-maps"

_CONDITION = "other_violate"


@dataclass(frozen=True)
class MfvPackage:
    """The installed package: its name, its `evaluate`, and its order of the foundations."""

    name: str
    evaluate: Callable[..., Mapping[str, Any]]
    foundations: tuple[str, ...]


def find_package() -> MfvPackage:
    """The installed package, the newer of the two where both are.

    Raises:
        ConfigError: neither is installed, a dependency of it is missing, or it is too old.
    """
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                continue
            raise ConfigError(
                f"the package {name} is installed but cannot be imported: {error}: install it "
                f"again with `{INSTALL}`"
            ) from error
        return _describe(name, module)
    raise ConfigError(
        f"the package of tiny-mfv is not installed (neither {' nor '.join(MODULES)}): run "
        f"`{INSTALL}`, or use the forced choice that is built in"
    )


def _describe(name: str, module: Any) -> MfvPackage:
    evaluate = getattr(module, "evaluate", None)
    known = inspect.signature(evaluate).parameters if callable(evaluate) else {}
    if evaluate is None or not {"vignettes", "conditions", "return_per_row"} <= set(known):
        raise ConfigError(
            f"the installed {name} is of another version than this package knows (its evaluate "
            f"has no return_per_row): run `{INSTALL}`"
        )
    foundations = tuple(getattr(module, "_DEFAULT_FORCED_FOUNDATIONS", FOUNDATIONS))
    if sorted(foundations) != sorted(FOUNDATIONS):
        raise ConfigError(
            f"the installed {name} asks for other foundations ({', '.join(foundations)}): run "
            f"`{INSTALL}`"
        )
    return MfvPackage(name, evaluate, foundations)


def measure_with_package(
    lm: LanguageModel,
    vignettes: Sequence[Vignette],
    *,
    think_tokens: int = 0,
    batch_size: int = 8,
    package: MfvPackage | None = None,
    system: str | None = None,
) -> Measurement:
    """The figures and items of `measure_forced_choice`, from the package's own probabilities.

    The package asks in its own words and lets the model think for at least one token. It knows no
    system prompt: while it runs, the chat template puts ours before each chat, as `encode_chat`
    does. What it could not read has None among the items.

    Raises:
        ConfigError: the package is missing, or another version than this package knows.
        DataError: it returned other rows than it was given.
        DivergedError: it could read nothing.
    """
    package = package or find_package()
    options = {
        "conditions": (_CONDITION,),
        "max_think_tokens": max(1, think_tokens),
        "batch_size": batch_size,
        "return_per_row": True,
        "verbose": 0,  # a level in one generation of the API, a flag in another, absent in a third
    }
    known = inspect.signature(package.evaluate).parameters
    with _unchanged_tokenizer(lm.tokenizer), _opened_by(lm, system):
        report = package.evaluate(
            lm.model,
            lm.tokenizer,
            vignettes=[_as_row(v) for v in vignettes],
            **{key: value for key, value in options.items() if key in known},
        )
    rows = report["per_row"]
    if [row["id"] for row in rows] != [v.id for v in vignettes]:
        raise DataError(
            f"{package.name} returned other vignettes than it was given: run `{INSTALL}`, or use "
            "the forced choice that is built in"
        )
    p = np.array([_probabilities(row["p"], package) for row in rows])
    return profile_measurement(vignettes, p, _mass(rows))


def _as_row(vignette: Vignette) -> dict[str, Any]:
    """A vignette in the package's form: one text a condition, human shares in per cent."""
    coarse = COARSE[FOUNDATIONS.index(vignette.foundation)]
    row: dict[str, Any] = {
        "id": vignette.id,
        "foundation": coarse,
        "foundation_coarse": coarse,
        "wrong": None,
        "set": "classic",
        _CONDITION: vignette.text,
        "self_violate": vignette.text,
    }
    if vignette.human is not None:
        shares = zip(COARSE, vignette.human, strict=True)
        row |= {f"human_{name}": 100 * share for name, share in shares}
    return row


def _probabilities(p: Any, package: MfvPackage) -> list[float]:
    """A row's probabilities in the order of FOUNDATIONS."""
    named = p if isinstance(p, Mapping) else dict(zip(package.foundations, p, strict=True))
    return [float(named[f]) for f in FOUNDATIONS]


def _mass(rows: Sequence[Mapping[str, Any]]) -> Float[np.ndarray, " vignettes"] | None:
    """Mass on the allowed answers; the first versions do not report it."""
    if any("pmass_allowed" not in row for row in rows):
        return None
    return np.array([float(row["pmass_allowed"]) for row in rows])


@contextmanager
def _opened_by(lm: LanguageModel, system: str | None) -> Iterator[None]:
    """Chats are rendered as ours are, and begin with this system prompt where there is one."""
    tokenizer, role = lm.tokenizer, lm.template.system_role
    render = lm.template.renders(tokenizer.apply_chat_template, answers=False)

    def opened(conversation: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        if system is None:
            return render(conversation, *args, **kwargs)
        if conversation and not isinstance(conversation[0], Mapping):  # a batch of chats
            chats: list[Any] = [with_system(list(c), system, role=role) for c in conversation]
        else:
            chats = with_system(list(conversation), system, role=role)
        return render(chats, *args, **kwargs)

    tokenizer.apply_chat_template = opened
    try:
        yield
    finally:
        del tokenizer.apply_chat_template


@contextmanager
def _unchanged_tokenizer(tokenizer: Any) -> Iterator[None]:
    """The package pads on the left and may set a padding token: put both back."""
    side, pad = tokenizer.padding_side, tokenizer.pad_token
    try:
        yield
    finally:
        tokenizer.padding_side, tokenizer.pad_token = side, pad
