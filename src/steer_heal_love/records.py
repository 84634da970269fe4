"""The nouns that the rooms pass to each other: frozen, plain, serialisable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:  # `shl axes` reads records, and must not wait for torch
    from torch import Tensor

T = TypeVar("T")

LEFT_OVER = frozenset({"surplus", "duplicate"})  # reasons of what passed the filter, unneeded
CONTENT = frozenset({"trait", "irrelevant"})  # reasons of what is coherent, and not to learn from


@dataclass(frozen=True)
class AnswerPair:
    """A question with two answers matched in length and form, one with the trait."""

    question: str
    trait: str
    other: str


@dataclass(frozen=True)
class Axis:
    """A trait: two opposite personas, prompts to generate on, and the means to measure it."""

    name: str
    description: str
    template: str
    pos: str
    neg: str
    probes: tuple[str, ...]
    pairs: tuple[AnswerPair, ...]
    narration: tuple[str, ...] = ()
    foundations: Mapping[str, int] = field(default_factory=dict)

    @property
    def pos_system(self) -> str:
        """The system prompt of the positive persona."""
        return self.template.replace("{persona}", self.pos)

    @property
    def neg_system(self) -> str:
        """The system prompt of the negative persona."""
        return self.template.replace("{persona}", self.neg)


@dataclass(frozen=True)
class Direction:
    """A steering direction: one vector per layer of a band, float32, raw scale.

    κ = 1 is the shift of the hidden state that the persona itself causes.
    """

    layers: tuple[int, ...]
    vectors: Tensor  # [len(layers), d] float32


@dataclass(frozen=True)
class Adapter:
    """One round's LoRA in PEFT's own key names and configuration."""

    tensors: Mapping[str, Tensor]  # "base_model.model.<module>.lora_A.weight": [r, in], …
    config: Mapping[str, Any]  # the fields of peft.LoraConfig


@dataclass(frozen=True)
class Context:
    """A user message of some kind, to read the direction in or to generate on."""

    kind: str
    text: str


@dataclass(frozen=True)
class Completion:
    """One sampled answer: ids exclude the prompt and the end token."""

    prompt: str
    text: str
    token_ids: tuple[int, ...]
    end_id: int | None  # the end token, where the model ended by itself; None where it was cut off
    kappa: float
    seed: int
    index: int  # row of the noise: (seed, index) fixes the draw
    kappas: tuple[float, ...] | None = None  # of each token, where it is not κ for all of them
    rewinds: int = 0  # how often it was rewound to go on at less κ
    dropped: bool = False  # given up after too many rewinds; it stops where it went wrong
    drawn: int | None = None  # tokens drawn, rewound ones too; None: no more than it has
    watched: int = 0  # tokens that the base model read to watch over it

    @property
    def drawn_tokens(self) -> int:
        """Tokens that were drawn for it: its own, the end, and those that were rewound."""
        return len(self.token_ids) + self.ended if self.drawn is None else self.drawn

    @property
    def ended(self) -> bool:
        """Whether the model ended by itself, before the length limit."""
        return self.end_id is not None


@dataclass(frozen=True)
class Scores:
    """Everything the filter looks at, for one completion. Perplexities are under the base model."""

    perplexity: float
    tail_perplexity: float  # the last quarter (at least 8 tokens)
    window_perplexity: float  # the worst window of 16 tokens
    word_repetition: float  # share of word n-grams that are repeats, 0 to 1
    char_run: float  # share of the text in its longest periodic run of characters, 0 to 1
    compression: float  # len(text) / len(zlib(text)); high for repetitive text
    narrates: bool
    refuses: bool
    empty: bool
    truncated: bool  # cut off by the token limit
    trait_nats: float | None = None  # persona likelihood ratio per token, nats
    relevance_nats: float | None = None  # to its own prompt over others, per token, nats


@dataclass(frozen=True)
class Ceilings:
    """The highest coherence scores that a completion may have."""

    perplexity: float
    tail_perplexity: float
    window_perplexity: float
    word_repetition: float
    compression: float


@dataclass(frozen=True)
class Limits:
    """What the filter goes by: when a completion is broken, and when it is fit to learn from."""

    sound: Ceilings  # above one of these it is broken
    fit: Ceilings  # above one of these it is not what the base model would have written as readily
    trait_nats: float  # the least persona likelihood ratio
    relevance_nats: float = -math.inf  # the least relevance to the prompt


@dataclass(frozen=True)
class Judged:
    """A completion with its scores and its fate; `reasons` is empty where it was kept."""

    completion: Completion
    scores: Scores
    reasons: tuple[str, ...]
    surprise_nats: tuple[float, ...] = ()  # -log p of each token under the base model

    @property
    def kept(self) -> bool:
        """Whether the filter kept it."""
        return not self.reasons

    @property
    def coherent(self) -> bool:
        """Whether no filter but the floors of trait and relevance dropped it."""
        return not set(self.reasons) - LEFT_OVER - CONTENT

    @property
    def answers(self) -> bool:
        """Whether it is coherent, and not known to be beside the point."""
        return self.coherent and "irrelevant" not in self.reasons


@dataclass(frozen=True)
class Effort:
    """What it took to find a dose and enough survivors, in generated tokens."""

    search: str  # walk or bisect
    doses: tuple[float, ...]  # that were probed, in order
    search_tokens: int  # of the probes; their survivors are pooled
    tokens: int  # of the round, the probes' included


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval (95 % unless a caller says otherwise)."""

    value: float
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Its ends; None where they are not known, and so infinite."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        return (self.low, self.high) if known else None


@dataclass(frozen=True)
class Cost:
    """What a piece of work took, or a stage; None where it is not known."""

    wall_s: float = 0.0
    tokens: int | None = 0  # read, drawn, scored or trained on, each time anew
    peak_bytes: int | None = 0  # most memory at once: allocated on a GPU, else of the process

    def __add__(self, other: Cost) -> Cost:
        """Of both, one after the other."""
        known = None not in (self.tokens, other.tokens)
        peaks = [c.peak_bytes for c in (self, other) if c.peak_bytes is not None]
        return Cost(
            self.wall_s + other.wall_s,
            (self.tokens or 0) + (other.tokens or 0) if known else None,
            max(peaks) if len(peaks) == 2 else None,
        )

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens over seconds."""
        return None if self.tokens is None or self.wall_s <= 0 else self.tokens / self.wall_s


@dataclass(frozen=True)
class Costed:
    """A piece of work as it is stored."""

    value: Any
    cost: Cost


@runtime_checkable
class Pieces(Protocol):
    """Finished work, by name. `do` returns the stored value, or computes and stores it."""

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """Value of the piece `name`: plain data, records and tensors, nested."""

    def forget(self, prefix: str) -> None:
        """Let go of the pieces whose names begin so."""


class NoPieces:
    """Keeps nothing: each piece is computed when it is asked for."""

    def do(self, name: str, compute: Callable[[], T]) -> T:  # noqa: ARG002
        """Compute the piece."""
        return compute()

    def forget(self, prefix: str) -> None:
        """Nothing is kept, so there is nothing to forget."""


@dataclass(frozen=True)
class Answer:
    """One answer of an evaluation, as the diary and the report page show it."""

    condition: str  # base, prompt_pos, prompt_neg, steered or healed
    mode: str  # greedy or sampled
    prompt: str
    text: str
    tokens: tuple[str, ...]  # the text, token by token
    surprise_nats: tuple[float, ...]  # -log p of each token under the base model
    loops: bool
    ended: bool
    reasons: tuple[str, ...]  # why the filter would drop it; empty where it would keep it


@dataclass(frozen=True)
class Measurement:
    """What was measured of one condition: figures with 95 % intervals, and the values per item.

    `items` maps an instrument to one value per item (None where an item has none), in the same
    order for every condition of a run, so that any two measurements can be paired.
    """

    figures: Mapping[str, Interval]
    items: Mapping[str, tuple[float | None, ...]]
    answers: tuple[Answer, ...] = ()

    def value(self, name: str) -> float:
        """The point estimate of a figure."""
        return self.figures[name].value


@dataclass(frozen=True)
class HealStep:
    """One optimiser step of the heal, and the gradients of its two terms at the hidden states."""

    step: int
    epoch: float
    loss: float
    nll: float  # nats per token, mean over the sequences of the step
    divergence_mean: float  # D(x), nats
    divergence_max: float
    over_tau: float  # share of sequences with D(x) > tau
    grad_nll: float
    grad_barrier: float
    grad_norm: float = 0.0  # of the adapter's gradient, before it is clipped
    anchor_nats: float = 0.0  # KL(base ‖ student) per token of the step's anchors


@dataclass(frozen=True)
class OnlineStep(HealStep):
    """One step of the online heal; `nll` is KL(student ‖ teacher), mean over its positions.

    The tilt is that of the step's teacher; `hit` says what lowers the next one's.
    """

    entropy_lost: float = 0.0  # to the base model, nats a token
    looping: float | None = None  # share of the student's own texts that loop; None of no text
    ended: float | None = None  # share of the student's own texts that end
    gamma: float = 0.0
    kappa: float = 0.0
    a: float = 0.0
    hit: tuple[str, ...] = ()


@dataclass(frozen=True)
class Healed:
    """The result of a heal: the adapter, its curve, and the loss on held-out texts per epoch."""

    adapter: Adapter
    steps: tuple[HealStep, ...]
    validation: tuple[Mapping[str, float], ...]  # per epoch: loss, nll, divergence_mean, over_tau


@dataclass(frozen=True)
class BaseTexts:
    """What the base model's own texts show, sampled as an online heal samples the student's."""

    looping: float  # share of the texts
    ended: float  # share of the texts
    persona_nats: float  # D of the base under the positive persona from itself, mean over texts


@dataclass(frozen=True)
class OnlineHealed:
    """What an online heal came to: the last texts that it learnt on, and the next step's tilt."""

    healed: Healed
    texts: tuple[Completion, ...]
    tilt: tuple[float, float, float]  # γ, κ, a


@dataclass(frozen=True)
class Rival:
    """A way to the trait without training: its method, the dose of it, and a temperature."""

    method: str  # base, steering, contrast or random
    dose: float = 0.0  # κ of a direction, γ of a contrast
    temperature: float = 1.0

    @property
    def name(self) -> str:
        """As a part of a file's name."""
        return f"{self.method}-{self.dose:g}-{self.temperature:g}"

    @property
    def words(self) -> str:
        """In a sentence: "steering κ 1 at T 0.85"."""
        if self == BARE:
            return "base"
        symbol = "γ" if self.method == "contrast" else "κ"
        label = "random directions" if self.method == "random" else self.method
        cold = "" if self.temperature == 1 else f" at T {self.temperature:g}"
        return f"{label} {symbol} {self.dose:g}{cold}"


BARE = Rival("base")  # the base model itself, measured as its rivals are, to hold them against


@dataclass(frozen=True)
class RoundRecord:
    """Everything that one round found."""

    round: int
    direction: Direction
    dose: float  # 0: not steered
    judged: tuple[Judged, ...]
    healed_result: Healed
    cosine_first: float  # mean over the band of cos(v_r, v_0)
    steered: Measurement | None  # None in a round that is not steered
    healed: Measurement
    cost: Mapping[str, Cost]  # by stage
    front: tuple[tuple[Rival, Measurement], ...] = ()  # rivals without training; round 0
    shift: Measurement | None = None  # how far the student has made the direction its own
    rivals: Mapping[str, Measurement] = field(default_factory=dict)  # other ways to bake; round 0
    effort: Effort | None = None  # what the search for the dose and for survivors took
    notes: tuple[str, ...] = ()  # what could not be measured, and why
    stopped: str | None = None  # why the loop ends here, where it ends early

    @property
    def kept(self) -> int:
        """Completions that the heal trained on."""
        return sum(j.kept for j in self.judged)

    @property
    def total(self) -> int:
        """Completions generated in this round."""
        return len(self.judged)

    @property
    def measured(self) -> dict[str, Measurement]:
        """The round's student by condition: steered, where it was, and healed."""
        steered = {} if self.steered is None else {"steered": self.steered}
        return {**steered, "healed": self.healed}

    @property
    def wall_s(self) -> dict[str, float]:
        """Seconds of each stage."""
        return {stage: cost.wall_s for stage, cost in self.cost.items()}


@dataclass(frozen=True)
class Baseline:
    """The base model, and the base model under each persona as a system prompt."""

    base: Measurement
    prompt_pos: Measurement
    prompt_neg: Measurement
