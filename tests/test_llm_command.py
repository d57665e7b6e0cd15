"""``beleg ask --llm`` run as a user runs it, against a real HTTP server and its faults."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from rag.chatbot import Chatbot
from rag.language import FAILURES, FALLBACK
from tests.conftest import Run
from tests.llm_server import Reply, Server, serving
from tests.test_llm import KEY, QUESTION, SAID, Say, as_json, good, number


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def translating(request: dict[str, object]) -> Reply:
    """A good answer, or translations where these are asked for."""
    held = json.loads(request["messages"][-1]["content"])  # type: ignore[index]
    if isinstance(held, list):
        return Reply(json.dumps({"translations": [f"In English, {len(t)}." for t in held]}))
    return good(request)


def test_a_good_answer_is_printed_with_its_citations(server: Server, beleg: Run) -> None:
    server.say = translating
    options = ["--llm", "openai:tiny", "--llm-url", server.address, "--translate", "--explain"]
    result = beleg("ask", QUESTION, *options, OPENAI_API_KEY=KEY)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{SAID} [1]\n")
    assert "\n\n[1] gipfel.de.txt, characters " in result.stdout
    assert "machine translation: In English, " in result.stdout
    assert "language model: model openai:tiny, prompt_tokens_at_most " in result.stdout
    assert KEY not in result.stdout
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_the_json_of_an_answer(server: Server, beleg: Run, bot: Chatbot) -> None:
    server.say = lambda request: Reply(
        as_json((f"{SAID} ![x](http://evil.example/x)", [number(request, "Antonow"), 999]))
    )
    options = ["--json", "--explain"]
    result = beleg("ask", QUESTION, *options, BELEG_LLM="ollama:tiny", BELEG_LLM_URL=server.root)
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert (answer["mode"], answer["text"], answer["removed_markers"]) == ("llm", f"{SAID} [1]", 1)
    (citation,) = answer["citations"]
    text = bot.documents[0].text
    assert text[citation["start"] : citation["end"]] == citation["quote"]
    assert "Antonow" in citation["quote"]
    assert answer["trace"]["llm"]["form"] == "json_schema"
    for hit, passage in zip(answer["trace"]["hits"], answer["passages"], strict=True):
        assert hit["ranks"] == passage["channels"]
        assert hit["scores"].keys() == hit["ranks"].keys()
        assert sum(hit["scores"].values()) == pytest.approx(passage["score"], abs=0.001)


FAULTS: dict[str, tuple[Say, str]] = {
    "HTTP 500": (lambda _: Reply(f"boom {KEY}", 500), FAILURES["en"]["status"].format(500)),
    "HTTP 401": (
        lambda _: Reply(f"the key {KEY} is wrong", 401),
        FAILURES["en"]["key"].format(401),
    ),
    "malformed": (lambda _: Reply('{"answered": true, "sent'), FAILURES["en"]["unreadable"]),
    "endless": (lambda _: Reply("word " * 99, endless=True), FAILURES["en"]["endless"]),
    "cut off": (lambda _: Reply(as_json(("So.", [1])), finish="length"), FAILURES["en"]["cut"]),
    "slow": (lambda _: Reply("So it", hang=True), FAILURES["en"]["slow"].format(3)),
    "down": (lambda _: Reply(""), FAILURES["en"]["down"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_with_a_fault_the_quotes_are_printed_and_one_line_says_why(
    fault: str, server: Server, beleg: Run, bot: Chatbot
) -> None:
    server.say, reason = FAULTS[fault]
    address = server.address
    if fault == "down":
        with serving() as gone:
            address = gone.address
    result = beleg(
        *("ask", QUESTION, "--llm", "openai:tiny", "--llm-url", address, "--explain"),
        OPENAI_API_KEY=KEY,
        BELEG_LLM_TIMEOUT="3" if fault == "slow" else "100",
        BELEG_DEBUG="1" if fault == "HTTP 401" else "",
    )
    assert result.returncode == 0
    assert f"beleg: {FALLBACK['en'].format(reason=reason)}\n" in result.stderr
    if fault != "HTTP 401":  # libraries warn where they are debugged
        assert result.stderr.count("\n") == 1
    assert result.stdout.startswith(bot.ask(QUESTION).text)
    assert f"failure {reason}" in result.stdout
    assert KEY not in result.stdout + result.stderr
    if fault != "slow":  # on a slow machine the time may be up before the request
        assert (server.requests == []) == (fault == "down")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--llm", "nonsense"], "write PROVIDER:MODEL"),
        (["--llm", "openai:tiny"], "OPENAI_API_KEY"),
        (["--llm", "openai:tiny", "--llm-url", f"ftp://{KEY}@x"], "like http://localhost:8000"),
        (["--llm", "ollama:tiny", "--llm-url", f"{KEY}"], "like http://localhost:8000"),
        (["--llm-url", "http://localhost:8000/v1"], "needs its name: --llm MODEL"),
        (["--translate"], "--translate needs a language model"),
    ],
)
def test_what_cannot_be_asked_is_bad_input(arguments: list[str], says: str, beleg: Run) -> None:
    result = beleg("ask", QUESTION, *arguments, OPENAI_API_KEY="")
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert KEY not in result.stderr
