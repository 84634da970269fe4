"""The commands of a conversation, and who answers after them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.errors import ConfigError
from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.play.conversation import HELP, Conversation
from steer_heal_love.play.loaded import Loaded
from steer_heal_love.play.turn import Column, take_turn


@pytest.fixture
def talk(loaded: Loaded) -> Conversation:
    return Conversation(loaded, Sampling(12))


def answer(talk: Conversation, message: str) -> Column:
    *_, (column,) = talk.ask(message)
    talk.keep(message, column.text)
    return column


def test_the_speaker_is_who_was_chosen(talk: Conversation) -> None:
    said = {"base model": answer(talk, "Hello").text}
    for command, speaker in (
        ("/round 2", "after 2 rounds"),
        ("/kappa 1.5", "after 2 rounds, κ 1.5"),
        ("/kappa −1", "after 2 rounds, κ -1"),
        ("/round 0", "base model, κ -1"),
        ("/kappa 0", "base model"),
    ):
        talk.command("/reset")
        assert talk.command(command) == f"now answers: {speaker}"
        assert talk.speaker == speaker
        said[speaker] = answer(talk, "Hello").text
    assert len(set(said.values())) == 5  # the last is the first again


def test_a_contrast_takes_the_place_of_a_dose(talk: Conversation) -> None:
    plain = answer(talk, "Hello").text
    for command, speaker in (
        ("/kappa 1.5", "base model, κ 1.5"),
        ("/contrast 900", "base model, contrast γ 900"),
        ("/round 2", "after 2 rounds, contrast γ 900"),
        ("/kappa 0", "after 2 rounds, contrast γ 900"),
        ("/kappa 1", "after 2 rounds, κ 1"),
        ("/contrast -2", "after 2 rounds, contrast γ -2"),
        ("/contrast 0", "after 2 rounds"),
    ):
        assert talk.command(command) == f"now answers: {speaker}"
    talk.command("/reset")
    talk.command("/round 0")
    talk.command("/contrast 900")
    assert answer(talk, "Hello").text != plain
    _, growing = talk.compare()
    *_, columns = growing
    assert [c.condition for c in columns][-1] == "contrasted"
    with pytest.raises(ConfigError, match="for example /contrast 4"):
        talk.command("/contrast much")


def test_every_turn_sees_those_before(talk: Conversation, loaded: Loaded) -> None:
    first = answer(talk, "Hello")
    second = answer(talk, "And then?")
    assert talk.last is not None
    assert talk.last.history == (("Hello", first.text),)
    alone = replace(talk.last, history=())
    *_, (other,) = take_turn(loaded, alone, ["base"])
    assert other.text != second.text
    assert talk.command("/history") == (
        f"you: Hello\nmodel: {first.text}\nyou: And then?\nmodel: {second.text}"
    )


def test_a_conversation_can_be_had_again(talk: Conversation) -> None:
    once = [answer(talk, "Hello").text, answer(talk, "Hello").text]
    assert once[0] != once[1]  # another draw each turn
    assert talk.command("/reset") == "forgotten"
    assert talk.command("/history") == "nothing was said yet"
    assert [answer(talk, "Hello").text, answer(talk, "Hello").text] == once


def test_a_system_prompt_comes_and_goes(talk: Conversation) -> None:
    plain = answer(talk, "Hello").text
    talk.command("/reset")
    assert talk.command("/system Be brief.") == "system prompt set"
    assert answer(talk, "Hello").text != plain
    talk.command("/reset")
    assert talk.command("/system") == "no system prompt"
    assert answer(talk, "Hello").text == plain


def test_the_last_message_is_compared_as_it_was_asked(talk: Conversation) -> None:
    with pytest.raises(ConfigError, match="say something first"):
        talk.compare()
    talk.command("/round 2")
    answer(talk, "One")
    two = answer(talk, "Two")
    setting, growing = talk.compare()
    *_, columns = growing
    assert setting.kappa == 0.75  # what the round settled on
    assert [c.condition for c in columns] == ["base", "prompted", "steered", "healed"]
    assert columns[3].text == two.text
    assert len({c.text for c in columns}) == 4
    assert len(talk.history) == 2
    talk.command("/kappa 3")
    assert talk.compare()[0].kappa == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/round", "a number from 0 to 3"),
        ("/round two", "a number from 0 to 3"),
        ("/round 9", "no round 9"),
        ("/round -1", "no round -1"),
        ("/kappa", "needs a number"),
        ("/kappa much", "needs a number"),
        ("/kappa nan", "needs a number"),
        ("/kappa inf", "must lie between"),
        ("/dance", "unknown command /dance"),
    ],
)
def test_a_mistake_changes_nothing(talk: Conversation, line: str, words: str) -> None:
    before = (talk.round, talk.kappa, talk.system)
    with pytest.raises(ConfigError, match=words):
        talk.command(line)
    assert (talk.round, talk.kappa, talk.system) == before


def test_help_names_every_command(talk: Conversation) -> None:
    assert talk.command("/help") == HELP
    names = ["/round", "/kappa", "/compare", "/system", "/history", "/reset", "/help", "/quit"]
    assert all(f"\n{name}" in f"\n{HELP}" for name in names)


@given(st.text(max_size=30))
def test_any_command_is_answered_or_refused(loaded: Loaded, rest: str) -> None:
    talk = Conversation(loaded)
    try:
        said = talk.command(f"/{rest}")
    except ConfigError:
        return
    assert said
