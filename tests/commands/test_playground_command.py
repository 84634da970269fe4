"""`shl playground`, served and asked as other programs would."""

from __future__ import annotations

import importlib.util
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from play_run import write_play_run
from play_server import served
from said import Said
from steer_heal_love.commands import playground
from steer_heal_love.errors import ConfigError
from steer_heal_love.lm.model.load import load_model
from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.play.loaded import Loaded, load_run
from steer_heal_love.play.turn import Setting, take_turn
from steer_heal_love.runs.read import read_run

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None,
    reason="gradio is not installed: pip install 'steer-heal-love[ui]'",
)
WORDS = ["Hello", "Who are you?", "Tell me about rain.", "<b>bold</b>", "é 👩‍🚀", "{{7*7}}"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_play_run(tmp_path_factory.mktemp("playground"))


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with served(run, run.parent / "said") as found:
        yield found


@pytest.fixture(scope="module")
def loaded(run: Path) -> Loaded:
    lm = load_model(str(run.parent / "tiny"), device="cpu", dtype="float32")
    return load_run(lm, read_run(run))


def values(setting: Setting) -> list[Any]:
    """The setting in the order of the page's components."""
    s = setting.schedule
    return [
        *(setting.prompt, setting.round, setting.kappa, s.shape, s.length, s.floor),
        *(setting.gate, setting.operator, setting.system or ""),
        *(setting.sampling.temperature, setting.sampling.max_new_tokens, setting.seed),
    ]


def titles(html: str) -> list[str]:
    """Surprise and dose of each token, as the page shows them on hover."""
    return re.findall(r'<span class="s\d+" title="([^"]+)"', html)


def expected(loaded: Loaded, setting: Setting) -> list[list[str]]:
    *_, columns = take_turn(loaded, setting)
    return [
        [
            f"surprise {p.surprise_nats:.1f} nats" + (f", κ {p.kappa:.2f}" if p.kappa else "")
            for p in column.pieces
        ]
        for column in columns
    ]


@needs_gradio
def test_three_clients_at_once_and_thirty_requests_none_lost_or_mixed_up(
    address: str, loaded: Loaded
) -> None:
    from gradio_client import Client

    asked = [
        Setting(WORDS[i % 6], i % 4, (-1.5, 0.5, 2.0)[i % 3], seed=i, sampling=Sampling(3 + i % 3))
        for i in range(30)
    ]

    def one(client: int) -> list[tuple[int, Any]]:
        mine = range(client, 30, 3)
        with_own_session = Client(address, verbose=False)
        jobs = [(i, with_own_session.submit(*values(asked[i]), api_name="/ask")) for i in mine]
        return [(i, job.result(timeout=300)) for i, job in jobs]

    with ThreadPoolExecutor(3) as people:
        answers = dict(pair for found in people.map(one, range(3)) for pair in found)
    assert sorted(answers) == list(range(30))
    for i, columns in answers.items():
        assert [titles(html) for html in columns] == expected(loaded, asked[i]), asked[i]
    assert len({str(columns) for columns in answers.values()}) == 30


@needs_gradio
def test_a_mistake_comes_back_as_one_line_and_the_next_is_served(
    address: str, loaded: Loaded
) -> None:
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client = Client(address, verbose=False)
    good = Setting("Hello", sampling=Sampling(3))
    for bad, words in (
        (replace(good, prompt="  "), "message is empty"),
        (replace(good, prompt="a b " * 600), "exceeds the model"),
    ):
        with pytest.raises(AppError, match=words) as error:
            client.predict(*values(bad), api_name="/ask")
        assert "\n" not in str(error.value)
        found = client.predict(*values(good), api_name="/ask")
        assert [titles(html) for html in found] == expected(loaded, good)
    program = client.predict(*values(good), api_name="/program")
    assert "prompt = 'Hello'" in program


@needs_gradio
def test_it_is_for_this_machine_alone(address: str) -> None:
    port = int(address.rpartition(":")[2])
    listening = [
        c.laddr.ip
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    ]
    assert listening == ["127.0.0.1"]
    with urllib.request.urlopen(address) as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    foreign = urllib.request.Request(address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(foreign)


def test_what_is_missing_is_told(
    say: Callable[..., Said], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gradio" else find(name, *a)
    )
    said = say("playground", str(run))
    assert (said.code, said.out) == (2, "")
    assert "pip install 'steer-heal-love[ui]'" in said.err
    assert said.err.count("\n") == 1


@needs_gradio
def test_a_port_in_use_is_told_before_anything_is_loaded(
    say: Callable[..., Said], tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = say("playground", str(tmp_path), "--port", str(port))
    assert said.code == 2
    assert f"port {port} cannot be used" in said.err
    with pytest.raises(ConfigError, match="0 to 65535"):
        playground._listen(70_000)
    said = say("playground", str(tmp_path), "--port", "0")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "is not a run directory" in said.err
