"""Chat models of LangChain: opened by name, asked within a time limit, for JSON if they can.

A reply is asked for as JSON by schema, where the model refuses that as JSON of any kind, and
else as text. Which forms a model refuses is remembered. Errors are told by kind alone: their
text may hold a key.
"""

from __future__ import annotations

import contextvars
import ipaddress
import json
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from index.errors import ModelError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

T = TypeVar("T")
Form: TypeAlias = Literal["json_schema", "json_mode", "text"]
Messages: TypeAlias = Sequence[tuple[str, str]]
"""Role ("system", "human", "ai") and text of each."""

FORMS: tuple[Form, ...] = ("json_schema", "json_mode", "text")
CLIENT_TIMEOUT = 120.0
"""Seconds after which the client of a model that we opened lets go of a silent connection,
unless who opens it waits longer."""

# Where providers say why a reply ended, and what they say where it was cut off.
_ENDS = ("finish_reason", "done_reason", "stop_reason", "stopReason")
_CUT = (
    "length", "model_length", "max_tokens", "max_output_tokens", "model_context_window_exceeded",
)  # fmt: skip
_SAY_WHY = ("openai-chat", "azure-openai-chat", "chat-ollama")
"""Models of LangChain that always say why a reply ended."""

# What servers say to a request whose form they do not know.
_REFUSALS = (400, 404, 415, 422, 501)


class ChatModel:
    """A chat model; ``model`` is LangChain's string for it, or itself.

    ``callbacks`` are LangChain's, and told of every request.

    Raises:
        ModelError: there is no such provider, or its package or key is missing.
    """

    def __init__(
        self,
        model: str | BaseChatModel,
        *,
        url: str | None = None,
        role: str = "language model",
        timeout: float = CLIENT_TIMEOUT,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self.name = model if isinstance(model, str) else type(model).__name__
        self._model: Any = _open(model, url, role, timeout) if isinstance(model, str) else model
        self._config = {"callbacks": list(callbacks)} if callbacks else None
        self._first = 0  # of FORMS: those before it were refused

    @property
    def retries(self) -> bool:
        """Whether its client asks again by itself where a server is busy or fails."""
        return hasattr(self._model, "max_retries")

    @property
    def window(self) -> int | None:
        """The tokens that it takes in, where that is known."""
        return getattr(self._model, "num_ctx", None) or (
            getattr(self._model, "profile", None) or {}
        ).get("max_input_tokens")

    @property
    def host(self) -> str:
        """Where its client asks: a computer and its port; nothing where the client does not say."""
        for path in ("root_client.base_url", "_client._client.base_url", "base_url"):
            found = self._model
            for name in path.split("."):
                found = getattr(found, name, None)
            if found:
                return urlsplit(str(found)).netloc.rpartition("@")[2]
        return ""

    def forms(self) -> tuple[Form, ...]:
        """The forms to try, best first."""
        return FORMS[self._first :]

    def takes(self, form: Form) -> None:
        """Remember that the forms before this one were refused."""
        self._first = FORMS.index(form)

    def ask(
        self, messages: Messages, schema: Mapping[str, Any], read: Callable[[object], T | None]
    ) -> T | None:
        """What ``read`` makes of a reply, in the first form of which it makes anything.

        ``read`` is given a reply's text, or what LangChain made of it.
        """
        refused, failure = True, None
        for form in self.forms():
            try:
                reply = self._reply(messages, schema, form)
            except Exception as error:
                if not refuses(error):
                    refused = False
                    if not unfit(error):
                        raise  # no other form would help
                failure = error
                continue
            if refused:
                self.takes(form)
            if found := next((held for held in map(read, reply) if held is not None), None):
                return found
            refused, failure = False, None
        if failure:
            raise failure
        return None

    def _reply(self, messages: Messages, schema: Mapping[str, Any], form: Form) -> list[object]:
        """The text of the reply, and what LangChain made of it."""
        if form == "text":
            return [self._model.invoke(list(messages), self._config).text]
        shaped = self._shaped(schema, form, include_raw=True)
        found = shaped.invoke(list(messages), self._config)
        return [found["raw"].text, found["parsed"]]

    def stream(
        self, messages: Messages, schema: Mapping[str, Any], form: Form, until: float
    ) -> Iterator[tuple[str, str]]:
        """The pieces of a reply, and with each "cut" if the model was cut off there, "end" if it
        came to an end, and else nothing.

        Raises TimeoutError when ``until``, of time.monotonic, has come.
        """

        def chunks() -> Iterator[Any]:
            # Of a model that is asked for a form and then a parser, which would hold it up.
            asked = self._model if form == "text" else self._shaped(schema, form).first
            yield from asked.stream(list(messages), self._config)

        for chunk in in_time(chunks, until):
            ended = getattr(chunk, "response_metadata", None) or {}
            yield str(chunk.text), _end(ended)

    @property
    def says_why(self) -> bool:
        """Whether it says why a reply ended; one that just stops was cut off."""
        return getattr(self._model, "_llm_type", "") in _SAY_WHY

    def _shaped(self, schema: Mapping[str, Any], form: Form, **options: Any) -> Any:
        return self._model.with_structured_output(dict(schema), method=form, **options)


def _end(metadata: Mapping[str, Any]) -> Literal["", "cut", "end"]:
    """Whether a piece of a reply is its last, by what LangChain was told with it."""
    why = next((str(metadata[name]) for name in _ENDS if metadata.get(name)), "")
    if metadata.get("status") == "incomplete":  # of OpenAI's responses
        return "cut"
    if not why:
        return ""
    return "cut" if why.rpartition(".")[2].lower() in _CUT else "end"


def refuses(error: Exception) -> bool:
    """Whether a server does not know the form of reply that it was asked for."""
    return status_of(error) in _REFUSALS


def unfit(error: Exception) -> bool:
    """Whether the client cannot ask for that form, or could not read the reply in it."""
    kinds = (ValueError, TypeError, AttributeError, LookupError, AssertionError)
    return isinstance(error, (*kinds, NotImplementedError))


def status_of(error: Exception) -> int | None:
    """The HTTP status of a failure, if it has one."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def kind_of(error: Exception) -> str:
    """An error without its text."""
    status = status_of(error)
    return type(error).__name__ + ("" if status is None else f" ({status})")


def kinds_of(error: BaseException) -> Iterator[str]:
    """The names of what an error is, and of what it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield from (f"{kind.__module__}.{kind.__name__}" for kind in type(cause).__mro__)
        cause = cause.__cause__


def within(seconds: float, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises; TimeoutError if that takes longer."""
    return next(in_time(lambda: iter((call(),)), time.monotonic() + seconds))


def in_time(items: Callable[[], Iterator[T]], until: float) -> Iterator[T]:
    """The items, made in a thread of its own; TimeoutError at ``until``, of time.monotonic.

    Clients' own timeouts begin anew with each byte, and differ by provider. Who stops early
    stops the thread, at the item that it is then waiting for; the clients of OpenAI and Ollama
    that we opened are stopped at their next byte, and at ``until`` in any case. A thread of any
    other client lasts as long as that waits, but does not keep the process from ending.
    """
    made: queue.Queue[tuple[str, Any]] = queue.Queue()
    stopped = threading.Event()

    def work() -> None:
        try:
            for item in items():
                made.put(("item", item))
                if stopped.is_set():
                    return
            made.put(("end", None))
        except BaseException as error:
            made.put(("error", error))

    context = contextvars.copy_context()  # LangChain's callbacks are in it
    context.run(_LIMIT.set, (until, stopped))
    threading.Thread(target=context.run, args=(work,), daemon=True).start()
    try:
        while True:
            try:
                left = until - time.monotonic()
                if left <= 0:  # also where whoever takes the items is slow
                    raise TimeoutError
                kind, held = made.get(timeout=left)
            except queue.Empty:
                raise TimeoutError from None
            if kind == "end":
                return
            if kind == "error":
                raise held
            yield held
    finally:
        stopped.set()


_LIMIT: contextvars.ContextVar[tuple[float, threading.Event] | None] = contextvars.ContextVar(
    "limit", default=None
)
"""Until when, of time.monotonic, a request may take, and whether nobody waits for it any more."""


def _left() -> float | None:
    """The seconds that a request has left, if it is limited. Raises TimeoutError."""
    if (limit := _LIMIT.get()) is None:
        return None
    left = limit[0] - time.monotonic()
    if left <= 0 or limit[1].is_set():
        raise TimeoutError
    return left


def _hurry(request: Any) -> None:
    """A request of httpx waits for no connection and no byte longer than it has left."""
    if (left := _left()) is not None:
        own = request.extensions.get("timeout", {})
        kinds = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {
            kind: left if own.get(kind) is None else min(left, own[kind]) for kind in kinds
        }


def _end_in_time(response: Any) -> None:
    """A response of httpx ends when its time is up, whatever is sent."""
    bytes_of = response.iter_raw

    def limited(chunk_size: int | None = None) -> Iterator[bytes]:
        for piece in bytes_of(chunk_size):
            try:
                _left()
            except TimeoutError:
                response.close()
                raise
            yield piece

    response.iter_raw = limited


def json_objects(text: str) -> Iterator[object]:
    """The JSON objects in a text."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            held, end = decoder.raw_decode(text, start)
            yield held
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)


def _open(name: str, url: str | None, role: str, timeout: float) -> BaseChatModel:
    """The model of that name; at a ``url``, OpenAI's interface is spoken or else Ollama's."""
    from langchain.chat_models import init_chat_model

    options: dict[str, Any] = {}
    provider, _, model = name.partition(":")
    if url is not None:
        if not _is_address(url):  # it is not repeated: it may hold a key
            raise ModelError("the address of the {} must be like http://localhost:8000/v1", role)
        options["base_url"] = url
        if provider != "ollama":
            provider, model = "openai", model if provider == "openai" else name
            name = f"openai:{model}"
            if not os.environ.get("OPENAI_API_KEY"):
                options["api_key"] = "none"  # local servers want none, but the client does
    _check_keys(provider, url)
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [_hurry], "response": [_end_in_time]}
    client = None
    try:
        if provider == "openai":
            from openai import DefaultHttpxClient

            options["timeout"] = max(timeout, CLIENT_TIMEOUT)
            options["http_client"] = client = DefaultHttpxClient(event_hooks=hooks)
        elif provider == "ollama":
            options["client_kwargs"] = {
                "timeout": max(timeout, CLIENT_TIMEOUT),
                "event_hooks": hooks,
            }
        opened: BaseChatModel = init_chat_model(name, **options)
        if client is not None:  # nobody else does
            weakref.finalize(opened, client.close)
    except Exception as error:  # every provider has its own
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        hint = ": write PROVIDER:MODEL, like openai:gpt-5-mini" if ":" not in name else ""
        raise ModelError("the {} {!r} cannot be used{} ({})", role, name, hint, reason) from None
    return opened


def _check_keys(provider: str, url: str | None) -> None:
    """Clients put a key with a line break, say, into their errors and logs, and send one to
    whatever address they are given, for all on the way to read."""
    for name, key in os.environ.items():
        # GOOGLE_API_KEY is google_genai's, and MISTRAL_API_KEY mistralai's.
        whose = name.removesuffix("_API_KEY")
        if whose == name or not key or not provider.upper().startswith(whose):
            continue
        if not all("!" <= sign <= "~" for sign in key):
            raise ModelError(
                "{} holds what no key does: a space, a line break, a foreign letter", name
            )
        if url is not None and urlsplit(url).scheme == "http" and not is_this_computer(url):
            raise ModelError(
                "{} is not sent over plain http to another machine: use https, or unset it", name
            )


def is_this_computer(url: str) -> bool:
    """Whether an address leads to this computer; no name is looked up."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False
