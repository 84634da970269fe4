"""One check of a chat template at load: sentinels go through it, and what comes out is read."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.template import (
    THINKING_OFF,
    ChatTemplate,
    Messages,
    today,
    with_system,
)

# Something of what a template might alter: letters of both cases, quotes, markup, a second line.
USER = 'Sentinel 7f3A: "one" & <two>, it\'s é.\nA second line, 5e1B'
ANSWER = "Sentinel 9c2D: the answer"
SYSTEM = "Sentinel 4d8E: the system prompt"
NEXT = "Sentinel 6b0F: the next question"
REMEDY = (
    "pass as --model a copy of its folder with another chat_template.jinja, or choose another model"
)

# A thought's opening tag in the forms that models use, and the tag that closes it.
_THOUGHT = r"[\w:-]*(?i:think|thought|reason|scratch|reflect)[\w:-]*"
_FORMS = (
    (rf"<({_THOUGHT})>", "</{}>"),
    (rf"\[({_THOUGHT})\]", "[/{}]"),
    (rf"<\|START_({_THOUGHT})\|>", "<|END_{}|>"),
    (rf"<\|start_({_THOUGHT})\|>", "<|end_{}|>"),
    (rf"<\|begin_of_({_THOUGHT})\|>", "<|end_of_{}|>"),
    (rf"<\|(?!(?i:start|end|begin)_)({_THOUGHT})\|>", "<|/{}|>"),
    (rf"◁({_THOUGHT})▷", "◁/{}▷"),
    (r"<\|channel>(thought)", "<channel|>"),
)


def read_template(tokenizer: Any, model: str, date: datetime.date | None = None) -> ChatTemplate:
    """The chat template of a tokenizer, tried before anything is computed with it.

    Args:
        model: what the user calls the model.
        date: that templates with a clock show; today's unless given.

    Raises:
        ModelError: the user's text is left out, repeated or altered; no tag says that the answer
            begins, or another one behind a system prompt; the answer begins inside something that
            cannot be closed; its end is no token; or the text is another one at each call.
    """
    template = ChatTemplate(tokenizer, date or today())
    try:
        template = _with_content(template)
        template = replace(template, system_role=_shows_system(template))
        template = _with_answer(template)
        tag = _tag(template, with_system(_USER, SYSTEM, role=template.system_role))
        if tag != _tag(template, _USER):
            raise _Unfit("begins the answer in another way behind a system prompt")
        template = replace(
            template, ends=_ends(template), switches=_switches(template), dated=_dated(template)
        )
        if len({template.render(_USER) for _ in range(3)}) > 1:
            raise _Unfit("gives another text at each call")
    except _Unfit as unfit:
        raise ModelError(
            f"model {model!r}: its chat template ({template.name}) {unfit}: {REMEDY}"
        ) from None
    return template


class _Unfit(Exception):  # noqa: N818  (what the template does, in words)
    """Why the template is refused: what it does."""


_USER = [{"role": "user", "content": USER}]
_TURN = [*_USER, {"role": "assistant", "content": ANSWER}]
_GOES_ON = [*_TURN, {"role": "user", "content": NEXT}]


def _with_content(template: ChatTemplate) -> ChatTemplate:
    """With content as the template wants it: a text, or a list of parts where a text is lost."""
    problem = _content_problem(template)
    if problem is None:
        return template
    in_parts = replace(template, parts=True)
    if _content_problem(in_parts) is None:
        return in_parts
    raise problem


def _content_problem(template: ChatTemplate) -> Exception | None:
    try:
        text = template.render(_USER)
    except ModelError as error:
        return _Unfit(f"fails on a plain message ({str(error).partition('fails: ')[2]})")
    if text.count(USER) == 1 and text.count("7f3A") == 1:
        return None
    does = {0: "leaves out" if "7f3a" not in text.lower() else "alters", 1: "alters"}
    return _Unfit(f"{does.get(text.count('7f3A'), 'repeats')} the user's text")


def _shows_system(template: ChatTemplate) -> bool:
    """Whether a system message reaches the model, and leaves the user's as it was."""
    try:
        text = template.render(with_system(_USER, SYSTEM, role=True))
    except ModelError:
        return False
    return text.count(SYSTEM) == 1 and text.count(USER) == 1


def _tag(template: ChatTemplate, messages: Messages, *, opened: bool = True) -> str:
    """What stands behind the user's text."""
    return template.render(messages, opened=opened).rpartition(USER)[2]


def _with_answer(template: ChatTemplate) -> ChatTemplate:
    """With what each prompt must end in, so that the answer itself comes next.

    A finished turn shows what stands before an answer. Where the prompt ends earlier, in a thought
    or before the channel of the answer, the rest is added; where it ends in a thought that a
    finished turn does not have, the thought is closed.
    """
    tag, before = _tag(template, _USER), _before_answer(template)
    if not tag.strip() or (
        before is not None and tag == _tag(template, _USER, opened=False) and _rest(before, tag)
    ):
        raise _Unfit("puts no tag of the assistant behind the user's text")
    rest = None if before is None else _rest(before, tag)
    closing = (rest or "") + _closing(tag + (rest or ""))
    if closing:
        said = "each prompt goes on to where an answer begins, past any thinking"
        return replace(template, closing=closing, notes=(f"{said} ({closing.strip()!r})",))
    if before is not None and rest is None:
        _check_extra(tag, before, template)
    return template


def _before_answer(template: ChatTemplate) -> str | None:
    """What stands between a question and its answer in a finished turn; None where unknown."""
    try:
        text = template.render(_TURN, opened=False)
    except ModelError:
        return None
    _, asked, rest = text.partition(USER)
    between, answered, _ = rest.partition(ANSWER)
    return between if asked and answered else None


def _rest(before: str, tag: str) -> str | None:
    """What a finished turn has beyond the tag, blank space apart; None where it has another tag."""
    if before.startswith(tag):
        rest = before[len(tag) :]
        return rest if rest.strip() else ""
    return "" if before.strip() == tag.strip() else None


def _closing(tag: str) -> str:
    """What closes a thought that is open at the end of the tag; empty where there is none."""
    last = max(_opened(tag), key=lambda found: found[0], default=None)
    if last is None or last[1] in tag[last[0] :]:
        return ""
    return ("\n" if tag.endswith("\n") else "") + last[1] + "\n\n"


def _opened(tag: str) -> Iterator[tuple[int, str]]:
    """(place behind it, what closes it) of each tag that opens a thought."""
    for form, closing in _FORMS:
        for found in re.finditer(form, tag):
            yield found.end(), closing.format(found[1])


def _check_extra(tag: str, before: str, template: ChatTemplate) -> None:
    """Raises _Unfit where the prompt opens something that is none of the known thoughts."""
    finished = before.rstrip()
    differing = (i for i, (a, b) in enumerate(zip(tag, finished, strict=False)) if a != b)
    extra = tag[next(differing, len(finished)) :]
    knows = template.render(_USER, switches={}) != template.render(_USER)
    if extra.strip() and not knows and not [*_opened(extra)]:
        raise _Unfit(f"begins the answer with {extra.strip()[:40]!r}, which no finished turn has")


def _ends(template: ChatTemplate) -> frozenset[int]:
    """The special tokens that come right behind an answer, at the chat's end or before a question.

    Raises:
        _Unfit: the chat ends in text that is no token of its own.
    """
    ids: set[int] = set()
    tokenizer = template.tokenizer
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    always = _tag(template, _USER, opened=False).strip()  # also where no answer is to follow
    for messages in (_TURN, _GOES_ON):
        behind = _behind_answer(template, messages)
        if messages is _TURN and always == _tag(template, _USER).strip():
            behind = behind.removesuffix(always).strip()
        encoded = tokenizer(behind, add_special_tokens=False)["input_ids"] if behind else []
        if encoded and (encoded[0] in special or (len(encoded) == 1 and messages is _TURN)):
            ids.add(int(encoded[0]))
        elif encoded and messages is _TURN:
            raise _Unfit(f"ends an answer with {behind[:40]!r}, which is no token of the model")
    return frozenset(ids)


def _behind_answer(template: ChatTemplate, messages: Messages) -> str:
    """What follows the answer, blank space around it left out."""
    try:
        text = template.render(messages, opened=False)
    except ModelError:
        return ""
    return text.rpartition(ANSWER)[2].partition(NEXT)[0].strip()


def _switches(template: ChatTemplate) -> dict[str, Any]:
    """The variables without which the prompt would be another one."""
    wanted = template.render(_USER)
    if template.render(_USER, switches={}) == wanted:
        return {}
    needed = {
        name: value
        for name, value in THINKING_OFF.items()
        if template.render(_USER, switches={name: value}) == wanted
    }
    first = dict([*needed.items()][:1])
    return first or dict(THINKING_OFF)


def _dated(template: ChatTemplate) -> bool:
    other = replace(template, date=datetime.date(1999, 2, 3))
    chats = (_USER, with_system(_USER, SYSTEM, role=template.system_role))
    return any(template.render(chat) != other.render(chat) for chat in chats)
