"""One turn: a message, answered in several conditions at once, as far as the answers are."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from steer_heal_love.errors import ConfigError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.contrast import Contrast, make_contrast
from steer_heal_love.lm.reading.chat import (
    decode_text,
    encode_chat,
    join_systems,
    under_personas,
)
from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.lm.sampler.stream import Intervention, StreamRow, Token, stream
from steer_heal_love.maths.direction import Gate, Operator
from steer_heal_love.maths.schedule import Schedule
from steer_heal_love.play.loaded import Loaded

Condition = Literal["base", "prompted", "steered", "healed", "resteered", "contrasted"]
CONDITIONS: tuple[Condition, ...] = ("base", "prompted", "steered", "healed")
MAX_KAPPA = MAX_GAMMA = 1000.0  # far above what any model bears

_UNFINISHED = "\ufffd"  # what the bytes of half a character are decoded to


@dataclass(frozen=True)
class Setting:
    """Everything that one turn depends on, besides what is loaded.

    `round` counts healed rounds. `base` has nothing on. `prompted` is the base model with the
    positive persona as its system prompt. `steered` is what the round healed: the student before
    it, steered by κ along its direction. `healed` is the student after it, and `resteered` that
    student, steered. `contrasted` is the student after it, drawn by the contrast of the personas
    amplified by `gamma`: see `lm/patches/contrast.py`.
    """

    prompt: str
    round: int = 0
    kappa: float = 1.0
    gate: Gate = "none"
    operator: Operator = "add"
    schedule: Schedule = field(default_factory=Schedule)
    system: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    gamma: float = 0.0


@dataclass(frozen=True)
class Piece:
    """The text that a token added, with the dose it was drawn at and how it surprised the base."""

    text: str
    kappa: float
    surprise_nats: float


@dataclass(frozen=True)
class Column:
    """One condition's answer so far."""

    condition: Condition
    pieces: tuple[Piece, ...] = ()
    done: bool = False
    cut: bool = False  # it ran into the length limit

    @property
    def text(self) -> str:
        """The answer as plain text."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def perplexity(self) -> float | None:
        """Of the answer under the base model; None while there is nothing of it."""
        if not self.pieces:
            return None
        mean = sum(piece.surprise_nats for piece in self.pieces) / len(self.pieces)
        return math.exp(min(mean, 700.0))


def take_turn(
    loaded: Loaded, setting: Setting, conditions: Sequence[Condition] = CONDITIONS
) -> Generator[tuple[Column, ...], None, None]:
    """Yield the columns as they grow, one per condition and in that order.

    The base model reads along with each of them, under the same message without persona.

    Raises:
        ConfigError: the message is empty, the round does not exist, κ or γ is no sensible number,
            or there is no axis and a condition needs one.
        ModelError: the conversation exceeds the model's context.
        DivergedError: at this dose the model's numbers go bad.
    """
    if not setting.prompt.strip():
        raise ConfigError("the message is empty: write something")
    loaded.check_round(setting.round)
    check_kappa(setting.kappa)
    check_gamma(setting.gamma)
    contrast = None
    if "contrasted" in conditions:
        contrast = make_contrast(loaded.lm, loaded.known_axis(), setting.gamma)
    rows = [_row(loaded, setting, condition, contrast) for condition in conditions]
    intervention = None
    if any(row.kappa for row in rows):
        direction = loaded.direction(setting.round)
        intervention = Intervention(direction, setting.gate, setting.operator, setting.schedule)
    columns = [Column(condition) for condition in conditions]
    ids: list[list[int]] = [[] for _ in conditions]
    yield tuple(columns)
    for tokens in stream(
        loaded.lm,
        rows,
        setting.sampling,
        seed=setting.seed,
        adapters=loaded.adapters,
        intervention=intervention,
        tilt=None if contrast is None else contrast.tilt,
    ):
        for token in tokens:
            if not token.ends:
                ids[token.row].append(token.id)
            columns[token.row] = _grown(loaded.lm, columns[token.row], token, ids[token.row])
        yield tuple(columns)


def check_kappa(kappa: float) -> None:
    """Raises ConfigError where a dose is no number, or one that no model bears."""
    if not math.isfinite(kappa) or abs(kappa) > MAX_KAPPA:
        raise ConfigError(f"the dose κ must lie between −{MAX_KAPPA:g} and {MAX_KAPPA:g}")


def check_gamma(gamma: float) -> None:
    """Raises ConfigError where an amplification is no number, or one that no model bears."""
    if not math.isfinite(gamma) or abs(gamma) > MAX_GAMMA:
        raise ConfigError(f"the contrast γ must lie between −{MAX_GAMMA:g} and {MAX_GAMMA:g}")


def persona_prompt(loaded: Loaded, system: str | None) -> str:
    """The positive persona as a system prompt, with the user's own system prompt after it."""
    return join_systems(loaded.known_axis().pos_system, system)


def _row(
    loaded: Loaded, setting: Setting, condition: Condition, contrast: Contrast | None
) -> StreamRow:
    lm, plain = loaded.lm, encode_chat(loaded.lm, setting.prompt, setting.system, setting.history)
    match condition:
        case "base":
            return StreamRow(plain, judged_on=plain)
        case "prompted":
            system = persona_prompt(loaded, setting.system)
            prompted = encode_chat(lm, setting.prompt, system, setting.history)
            return StreamRow(prompted, judged_on=plain)
        case "steered":
            return StreamRow(plain, max(0, setting.round - 1), setting.kappa, judged_on=plain)
        case "healed":
            return StreamRow(plain, setting.round, judged_on=plain)
        case "resteered":
            return StreamRow(plain, setting.round, setting.kappa, judged_on=plain)
        case "contrasted":
            assert contrast is not None  # made where this condition is asked for
            pos, neg = under_personas(lm, plain, contrast.systems)
            return StreamRow(plain, setting.round, judged_on=plain, personas=(pos, neg))


def _grown(lm: LanguageModel, column: Column, token: Token, ids: list[int]) -> Column:
    """The column after one more token.

    A token may end in the middle of a character: its text then comes with the token that ends it.
    """
    text, shown = decode_text(lm, ids), len(column.text)
    unfinished = text.endswith(_UNFINISHED) and not token.last
    new = "" if unfinished else text[shown:]
    if token.ends:
        pieces = _with_rest(column.pieces, new)
    else:
        assert token.surprise_nats is not None  # the base model reads along with every row
        pieces = (*column.pieces, Piece(new, token.kappa, token.surprise_nats))
    return replace(column, pieces=pieces, done=token.last, cut=token.last and not token.ends)


def _with_rest(pieces: tuple[Piece, ...], rest: str) -> tuple[Piece, ...]:
    """The pieces with what was held back of a character that never came to its end."""
    if not rest or not pieces:
        return pieces
    return (*pieces[:-1], replace(pieces[-1], text=pieces[-1].text + rest))
