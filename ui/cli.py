"""The ``beleg`` command: arguments in; text, JSON and exit codes out.

Exit codes: 0 answered or done, 1 the documents do not say (``ask``), a measure fell short
(``eval``) or an index is damaged (``check``), 2 bad input or usage, 130 interrupted. Errors
are one line each. Nothing heavy is imported before a command needs it, so that
``beleg --help`` is instant.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import json
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from index.errors import BelegError, InputError
from ui.phrases import LANGUAGES

if TYPE_CHECKING:
    from index.types import Document
    from rag.chatbot import Chatbot
    from rag.llm import LanguageModel

DONE, NOT_SAID, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
FELL_SHORT = DAMAGED = 1

EXAMPLES = ("recall-why", "minsk-mediators", "climate-when", "x-worldcup")
"""Which of the bundled questions the chat offers; the last has no answer in the article."""


def run() -> NoReturn:
    """``main``, and the end of the process, whatever its other threads are at.

    Gradio answers in threads that do not hold Python up, and one that is amid torch when Python
    takes itself down aborts ("terminate called without an active exception").
    """
    try:
        code = main()
    except SystemExit as end:  # of argparse, or a kill
        code = end.code if isinstance(end.code, int) else DONE
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # A program started without them has none.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a stand-in, not a crash.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    # Small products gain nothing from NumPy's threads, and torch's wait for them to stop spinning:
    # a question took 1.6 times as long.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    debug = bool(os.environ.get("BELEG_DEBUG"))
    try:
        options = _parser().parse_args(_with_command(arguments))
        if not debug:
            _hush()
        command: Callable[[argparse.Namespace], int] = options.command
        code = command(options)
        sys.stdout.flush()
        return code
    except BelegError as error:
        if debug:
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain of it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        return _fail(f"internal error ({kind}); BELEG_DEBUG=1 beleg … shows where")


def _ask(options: argparse.Namespace) -> int:
    from index.store import check_question

    check_question(options.question)  # before anything is loaded
    bot = _open(options)
    if options.translate and bot.llm is None:
        raise InputError("--translate needs a language model: --llm MODEL")
    bot.strict = options.strict
    answer = bot.ask(options.question)
    if options.translate:
        answer = bot.translated(answer)
    if options.json:
        _print_json(answer.to_json(trace=options.explain))
    else:
        from rag.trace import lines
        from ui.render import plain, terminal

        if answer.notice:
            _warn(plain(answer.notice))
        _print(terminal(answer))
        if options.explain:
            _print(plain("\n".join(["", *lines(answer.trace, answer.seconds)])))
    return DONE if answer.answered else NOT_SAID


def _chat(options: argparse.Namespace) -> int:
    _check_address(options.host, options.port)
    auth, feedback = _auth(options), _feedback(options)
    bot = _open(options)
    bot.strict, bot.follow_ups = options.strict, options.follow_ups
    from index.progress import progress_bar

    with progress_bar("loading the page"):
        from ui.app import serve

    from ui.guard import is_loopback

    on_example = not options.paths and options.index is None
    serve(
        bot,
        _example_questions() if on_example else (),
        host=options.host,
        port=options.port,
        announce=lambda address: _print(f"Beleg is at {address} (Ctrl-C ends it)"),
        browser=sys.stdout.isatty(),
        feedback=feedback,
        auth=auth,
        changes=options.allow_changes or is_loopback(options.host),
    )
    return DONE


def _mcp(options: argparse.Namespace) -> int:
    from ui.assistant import check_installed, serve
    from ui.visit import House

    check_installed()
    bot = _open(options)
    bot.strict = options.strict
    serve(House(bot, changes=options.allow_changes))
    return DONE


def _add(options: argparse.Namespace) -> int:
    from index.load import load_all
    from index.progress import clear_bars
    from index.store import PassageIndex
    from rag.config import Settings

    bad: list[str] = []
    given: Iterable[str | Document] = options.paths
    model = options.model
    if not PassageIndex.exists(options.index):  # bad paths must not leave an empty index
        model = Settings.load(model=model).model
        loaded = load_all(options.paths, urls=True, on_skip=_warn, on_bad=bad.append)
        given = list(islice(loaded, 1))
        given = chain(given, loaded) if given else ()
    if given:
        index = PassageIndex.open(options.index, model=model, create=True)
        try:
            for document in index.adding(given, urls=True, on_skip=_warn):
                clear_bars()
                _print(_line(document.id, document.source, document.title))
        except InputError as error:
            bad.append(str(error))
    for line in bad:
        _warn(line)
    return BAD_INPUT if bad else DONE


def _list(options: argparse.Namespace) -> int:
    from index.store import PassageIndex

    index = PassageIndex.open(options.index)
    if options.json:
        from ui.render import described

        _print_json([described(document, text=options.text) for document in index.documents])
    elif options.text:
        from ui.render import plain

        for document in index.documents:
            _print(_line(document.id, document.source, document.title))
            _print(plain(document.text))
    else:
        for record in index.records:
            _print(_line(record.key, record.source, record.title))
    return DONE


def _remove(options: argparse.Namespace) -> int:
    from index.store import PassageIndex
    from ui.render import plain

    removed = PassageIndex.open(options.index).remove(*options.documents)
    _print(plain(f"removed {', '.join(removed)}").replace("\n", " "))
    return DONE


def _check(options: argparse.Namespace) -> int:
    from index.check import check, repair
    from index.place import place_of
    from ui.render import plain

    path = place_of(options.index).path  # without a password
    found = (repair if options.repair else check)(options.index, options.model)
    for line in found.problems:
        _print(plain(line))
    for line in found.notes:
        _warn(line)
    held = f"documents: {found.documents}, passages: {found.passages}"
    if options.repair and found.problems:
        lost = f", lost: {len(found.lost)}" if found.lost else ""
        _print(f"repaired; {held}{lost}")
        return DAMAGED if found.lost else DONE
    if found.problems:
        if not (isinstance(path, str) and found.lost):  # a server's is not mended so
            _print(f"to mend it: beleg check --index {path} --repair")
        return DAMAGED
    _print(f"{path} is as it was written; {held}")
    return DONE


def _eval(options: argparse.Namespace) -> int:
    from ui.evaluate import run

    report, short = run(options, open_bot=_open, say=_print, warn=_warn)
    if report.interrupted:
        return INTERRUPTED
    return FELL_SHORT if short else DONE


def _open(
    options: argparse.Namespace,
    given: Sequence[Document] = (),
    check: Callable[[Sequence[Document]], object] = lambda documents: None,
) -> Chatbot:
    """The documents to answer from; given paths never change the index on disk.

    ``given`` are those where neither paths nor an index are named, else the example.
    ``check`` is called with all of them, before they are embedded if no index is named.
    """
    from index.load import load_all
    from rag.chatbot import EXAMPLE, Chatbot

    llm = _language_model(options)
    if options.index is None:
        documents = given
        if options.paths or not documents:
            documents = list(load_all(options.paths or [EXAMPLE], urls=True, on_skip=_warn))
        check(documents)
        bot = Chatbot.from_documents(documents, model=options.model, llm=llm)
    else:
        bot = Chatbot.open(options.index, model=options.model, llm=llm)
    if bot.ranker.notice:
        _warn(bot.ranker.notice)
    if options.index is None:
        return bot
    if options.paths:
        bot = bot.fork()
        bot.add(options.paths, urls=True, on_skip=_warn)
    check(bot.documents)
    return bot


def _language_model(options: argparse.Namespace) -> LanguageModel | None:
    """The language model that is named or set, for those commands that take one."""
    from rag.config import Settings
    from rag.llm import TIMEOUT, LanguageModel

    if not hasattr(options, "llm"):
        return None
    settings = Settings.load(llm=options.llm, llm_url=options.llm_url)
    if settings.llm_url and not settings.llm:
        raise InputError("an address of a language model needs its name: --llm MODEL")
    if not settings.llm:
        return None
    timeout = settings.llm_timeout or TIMEOUT
    return LanguageModel(settings.llm, url=settings.llm_url, timeout=timeout)


def _check_address(host: str, port: int | None) -> None:
    """Tell before anything is loaded, and why; Gradio would say "no empty port" to all."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port or 0))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {port} is in use: choose another one with --port") from None
        raise InputError(f"cannot listen on {host}: {error.strerror}") from None


def _auth(options: argparse.Namespace) -> tuple[str, str] | None:
    """The name and password to ask for; whoever lets other computers in must have decided."""
    from ui.guard import is_loopback

    given = options.auth or os.environ.get("BELEG_AUTH")
    if given and not options.no_auth:
        name, colon, password = given.partition(":")
        if not (name and colon and password):
            raise InputError("--auth (or BELEG_AUTH) must be NAME:PASSWORD")
        return name, password
    if not options.no_auth and not is_loopback(options.host):
        raise InputError(
            f"other computers can reach {options.host}: give --auth NAME:PASSWORD (or set"
            " BELEG_AUTH), or --no-auth to let everyone in"
        )
    return None


def _feedback(options: argparse.Namespace) -> Path | None:
    """The file of verdicts; where other computers can reach the page, only one that is named."""
    from rag.config import settings_file
    from ui.guard import is_loopback

    if options.feedback:
        return Path(options.feedback)
    return settings_file().parent / "feedback.jsonl" if is_loopback(options.host) else None


def _example_questions() -> list[str]:
    """Bundled questions about the bundled article, German and English in turn."""
    from rag.chatbot import EXAMPLE

    questions = []
    for language in ("de", "en"):
        lines = (EXAMPLE.parent / f"questions.{language}.jsonl").read_text("utf-8").splitlines()
        by_id = {entry["id"]: entry["question"] for entry in map(json.loads, lines)}
        questions.append([by_id[key] for key in EXAMPLES])
    return [question for pair in zip(*questions, strict=True) for question in pair]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="beleg",
        description="Ask your own documents a question, in German or English; "
        "every sentence of the answer is cited word for word.",
        epilog="Without a command: the chat, whose options may follow, on the bundled example "
        "article. Exit codes: 0 answered or done, 1 the documents do not say, a measure fell short "
        "or an index is damaged, 2 bad input.",
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=_CommandParser
    )

    chat = _command(commands, "chat", _chat, "open the chat in the browser")
    _sources(chat)
    _llm(chat)
    chat.add_argument(
        "--host", metavar="H", default="127.0.0.1", help="address to listen on (%(default)s)"
    )
    chat.add_argument(
        "--port", metavar="N", type=_port, help="port to listen on (first free from 7860)"
    )
    chat.add_argument(
        "--no-follow-ups",
        dest="follow_ups",
        action="store_false",
        help="take every question as it stands",
    )
    _strict(chat)
    chat.add_argument(
        "--feedback",
        metavar="FILE",
        type=_name,
        help="append verdicts on answers to this file, as test questions for beleg eval "
        "(feedback.jsonl beside the settings)",
    )
    chat.add_argument(
        "--auth",
        metavar="NAME:PASSWORD",
        type=_name,
        help="ask for these; needed where other computers can reach the page (or BELEG_AUTH)",
    )
    chat.add_argument("--no-auth", action="store_true", help="let everyone in who can reach it")
    _allow_changes(
        chat,
        "let visitors add to the index and remove from it where other computers can reach the page",
    )

    mcp = _command(commands, "mcp", _mcp, "serve an assistant on standard input and output (MCP)")
    _sources(mcp)
    _strict(mcp)
    _allow_changes(mcp, "let the assistant add to the index and remove from it")

    ask = _command(commands, "ask", _ask, "answer one question, with citations")
    ask.add_argument("question", metavar="QUESTION", help="in German or English")
    _sources(ask)
    ask.add_argument("--json", action="store_true", help="print the answer as one JSON object")
    _strict(ask)
    ask.add_argument("--explain", action="store_true", help="also tell how the answer came about")
    _llm(ask)
    ask.add_argument(
        "--translate",
        action="store_true",
        help="have the language model translate quotes that are in another language",
    )

    add = _command(commands, "add", _add, "add documents to an index, or update them")
    add.add_argument("paths", metavar="PATH", nargs="+", help="file, folder or http(s) address")
    _index(add)
    _model(add)

    listing = _command(commands, "list", _list, "list the documents of an index")
    _index(listing)
    listing.add_argument("--json", action="store_true", help="print the list as JSON")
    listing.add_argument(
        "--text", action="store_true", help="with the text of each, to which offsets refer"
    )

    remove = _command(commands, "remove", _remove, "remove documents from an index")
    remove.add_argument(
        "documents", metavar="DOC", nargs="+", help="a document's id or name, as list gives it"
    )
    _index(remove)

    check = _command(commands, "check", _check, "check an index, and repair it")
    _index(check)
    check.add_argument(
        "--repair",
        action="store_true",
        help="mend what is damaged, embed anew what was made with another encoder, and wipe what "
        "was removed",
    )
    _model(check)

    evaluation = _command(commands, "eval", _eval, "measure the answers to test questions")
    evaluation.add_argument(
        "questions", metavar="QUESTIONS", help="JSON Lines, SQuAD JSON or a BEIR folder"
    )
    _sources(evaluation)
    evaluation.add_argument(
        "--contexts", metavar="FILE", help="SQuAD JSON with the texts and answers to the same ids"
    )
    evaluation.add_argument("--json", metavar="FILE", help="write the report as JSON")
    evaluation.add_argument("--html", metavar="FILE", help="write the report as one HTML page")
    evaluation.add_argument(
        "--html-language", choices=LANGUAGES, help="language of the HTML page (en)"
    )
    evaluation.add_argument(
        "--compare", metavar="FILE", help="set an earlier report (--json) beside this one"
    )
    evaluation.add_argument(
        "--fail-under",
        metavar="METRIC=VALUE",
        type=_bound,
        action="append",
        default=[],
        help="end with 1 if a measure is worse: under VALUE, or over it where less is better; "
        "may be given several times",
    )
    evaluation.add_argument(
        "--judge",
        metavar="MODEL",
        help="also ask a language model (LangChain's PROVIDER:MODEL) what it thinks of the answers",
    )
    evaluation.add_argument(
        "--calibrate",
        action="store_true",
        help="fit the encoder's confidence and its threshold, and keep them in the settings",
    )
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    parser.set_defaults(command=run)
    return parser


def _sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        default=[],
        help="file, folder or http(s) address to answer from (the bundled example article)",
    )
    parser.add_argument(
        "--index",
        metavar="DIR",
        type=_name,
        help="answer from the index in this folder, or at this address",
    )
    _model(parser)


def _llm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--llm",
        metavar="MODEL",
        type=_name,
        help="language model that answers in its own words (LangChain's PROVIDER:MODEL)",
    )
    parser.add_argument(
        "--llm-url",
        metavar="URL",
        type=_name,
        help="its address, if it is not its provider's: a server that speaks OpenAI's interface",
    )


def _index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--index",
        metavar="DIR",
        type=_name,
        required=True,
        help="folder or address of the index",
    )


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="M",
        type=_name,
        help="sentence-transformers model, a name or a folder (the bundled German-English one)",
    )


def _strict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--strict", action="store_true", help="drop sentences that their citations do not support"
    )


def _allow_changes(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--allow-changes", action="store_true", help=help)


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def _bound(text: str) -> tuple[str, float]:
    from ui.evaluate import bound

    return bound(text)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        sys.exit(_fail(f"{message} (see {self.prog} --help)"))


class _CommandParser(_Parser):
    """Takes options anywhere: ``ask QUESTION --json PATH``, which argparse alone refuses."""

    _intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._intermixed or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


class _Version(argparse.Action):
    """Looks the version up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **kwargs)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            _print(f"beleg {version('beleg')}")
        except PackageNotFoundError:
            _print("beleg (not installed)")
        parser.exit()


def _with_command(arguments: Sequence[str] | None) -> list[str]:
    """What was given; without a command it is the chat's."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    general = ("-h", "--help", "--version")
    options_only = not given or (given[0].startswith("-") and given[0] not in general)
    return ["chat", *given] if options_only else given


def _hush() -> None:
    """Keep what libraries say to developers from the user; must run before they load."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _line(document: str, source: str, title: str) -> str:
    from ui.render import plain

    return plain(f"{document}  {source}  {title}").replace("\n", " ")


def _print(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"cannot write the output: {error.strerror}") from error


def _print_json(value: object) -> None:
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    _print(json.dumps(value, ensure_ascii=not unicode, indent=2))


def _warn(line: str) -> None:
    # File names may hold what drives a terminal; a message is one line of plain text.
    words = "".join(sign if sign.isprintable() else "?" for sign in " ".join(line.split()))
    sys.stderr.write(f"beleg: {words}\n")


def _fail(line: str) -> int:
    _warn(line)
    return BAD_INPUT


if __name__ == "__main__":
    run()
