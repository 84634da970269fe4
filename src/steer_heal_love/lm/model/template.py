"""A model's chat template: what it renders, the same at every call of a run."""

from __future__ import annotations

import datetime
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jinja2.exceptions import TemplateError

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.quiet import first_line

Messages = Sequence[Mapping[str, str]]

# By these names templates know the switch that lets a model answer at once; the others ignore it.
THINKING_OFF: Mapping[str, Any] = {
    "enable_thinking": False,  # Qwen 3, SmolLM 3, GLM, Gemma 4
    "thinking": False,  # DeepSeek, Granite
    "reasoning": False,  # Command A
    "thinking_budget": 0,  # Seed-OSS
}

# transformers gives templates a clock, and passes no function on to them: this takes its place.
_DATE = "shl_date"
_CLOCK = (
    "{% macro strftime_now(format) %}{% set made = namespace(text=format) %}"
    f"{{% for sign, value in {_DATE} %}}"
    "{% set made.text = made.text | replace(sign, value) %}{% endfor %}{{ made.text }}"
    "{% endmacro +%}"
)
_SIGNS = "aAwdbBmyYHIpMSfjUWcxXGuVeDFTRhZz"

# What a template of any origin may raise while it runs.
_FAILURES = (
    *(TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    RecursionError,
)


@dataclass(frozen=True)
class ChatTemplate:
    """How chats are rendered, with what `read_template` found out about the template at load."""

    tokenizer: Any
    date: datetime.date = field(default_factory=lambda: today())  # that the template is told
    parts: bool = False  # a message's content is a list of parts, not a text
    system_role: bool = True
    closing: str = ""  # behind each prompt: what ends the thought that the template opens
    dated: bool = False  # whether the date shows
    switches: Mapping[str, Any] = field(default_factory=dict)  # of THINKING_OFF, what matters here
    ends: frozenset[int] = frozenset()  # special tokens that the template ends an answer with
    notes: tuple[str, ...] = ()  # what a user should hear about it

    @property
    def name(self) -> str:
        """What the tokenizer calls it."""
        templates = getattr(self.tokenizer, "chat_template", None)
        if isinstance(templates, dict) and "default" not in templates:
            return " or ".join(sorted(templates))
        return "default"

    @property
    def fingerprint(self) -> str:
        """sha256:… of the template as the model brings it."""
        text = str(getattr(self.tokenizer, "chat_template", ""))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def prompt(self, messages: Messages) -> str:
        """The chat up to the point where the answer begins."""
        return self.render(messages) + self.closing

    def render(
        self,
        messages: Messages,
        *,
        opened: bool = True,
        switches: Mapping[str, Any] = THINKING_OFF,
    ) -> str:
        """The chat as the template alone renders it.

        Args:
            opened: with the tag that an answer follows.
            switches: variables of the template.

        Raises:
            ModelError: the template refuses the messages.
        """
        chat = [self.message(m) for m in messages]
        try:
            with _same_chance():
                return str(
                    self.tokenizer.apply_chat_template(
                        chat,
                        chat_template=self.source,
                        tokenize=False,
                        add_generation_prompt=opened,
                        **{_DATE: _written(self.date)},
                        **switches,
                    )
                )
        except _FAILURES as error:
            raise ModelError(f"the model's chat template fails: {first_line(error)}") from error

    def renders(self, render: Callable[..., Any], *, answers: bool) -> Callable[..., Any]:
        """A tokenizer's `apply_chat_template` with this date and form of messages, for programs
        that call it themselves.

        Args:
            answers: as our own prompts, at once: thinking is off, and a thought is closed.
        """

        def rendered(conversation: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            batch = bool(conversation) and not isinstance(conversation[0], Mapping)
            chats = conversation if batch else [conversation]
            told: Any = [[self.message(m) for m in chat] for chat in chats]
            changed: dict[str, Any] = {_DATE: _written(self.date)}
            changed["chat_template"] = self.source
            changed |= {**(THINKING_OFF if answers else {}), **kwargs}
            with _same_chance():
                text = render(told if batch else told[0], *args, **changed)
            ends = answers and kwargs.get("add_generation_prompt") and isinstance(text, str)
            return text + self.closing if ends else text

        return rendered

    @property
    def source(self) -> str:
        """The template's text, with our clock in place of the machine's."""
        return _CLOCK + str(self.tokenizer.get_chat_template())

    def message(self, message: Mapping[str, str]) -> dict[str, Any]:
        """A message in the form that the template takes."""
        content = message["content"]
        return {
            **message,
            "content": [{"type": "text", "text": content}] if self.parts else content,
        }


def today() -> datetime.date:
    """The day that it is here."""
    return datetime.datetime.now().date()


def with_system(messages: Messages, system: str, *, role: bool) -> list[dict[str, str]]:
    """The chat with a system prompt: in a turn of its own, or without `role` in the first turn."""
    if role:
        return [{"role": "system", "content": system}, *map(dict, messages)]
    first, *rest = map(dict, messages)
    return [{**first, "content": f"{system}\n\n{first['content']}"}, *rest]


def _written(date: datetime.date) -> list[tuple[str, str]]:
    """The signs of strftime with their values at midnight of the date, the longer ones first."""
    midnight = datetime.datetime.combine(date, datetime.time())
    short = [(f"%-{s}", midnight.strftime(f"%{s}").lstrip("0") or "0") for s in "dmyHIMSj"]
    return [*short, *((f"%{s}", midnight.strftime(f"%{s}")) for s in _SIGNS), ("%%", "%")]


@contextmanager
def _same_chance() -> Iterator[None]:
    """Jinja's `random` and `lipsum` draw the same inside, each time; the state is put back."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)
