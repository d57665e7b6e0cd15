"""An evaluation as one HTML page: headline figures, plots, breakdowns, every question lost.

The page holds all it needs and asks for nothing: no script, no font, no image; the failures
are filtered by CSS alone. Whatever comes from questions, documents or settings is escaped.
It decides nothing: the figures are those of rag/report.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rag.calibrate import Fit
from rag.metrics import Interval
from rag.report import (
    CHANCE,
    INTERVALS,
    JUDGED,
    LESS_IS_BETTER,
    METRICS,
    NOWHERE,
    STAGES,
    Cited,
    Comparison,
    Group,
    Report,
    Row,
    Verdict,
    failures,
)
from ui.markup import bar, breakable, safe, table
from ui.plots import plots
from ui.speech import BY_KEYWORDS, PAIRED, Speech

HEADLINES = (
    "answer_hit@1", "recall@5", "citation_precision", "citations_exact", "false_abstention",
    "unanswerable_abstention", "calibration_error", "seconds_per_question",
)  # fmt: skip
SEARCHED = ("recall@1", "recall@5", "recall@20", "mrr", "ndcg@10")
"""The headlines where no question was answered, only searched for."""
BARS = ("answer_hit@1", "recall@5", "false_abstention", "unanswerable_abstention")
QUESTION = 200
"""How much of a question stands in a list; the whole one is within."""
GROUPS, FAILURES = 12, 500
"""How many groups of a breakdown are shown at once, and how many failures at all."""

_STYLE = """
:root { color-scheme: light dark; --page: #f7f6f3; --card: #ffffff; --ink: #1f1e1b;
  --soft: #65625b; --line: #dedad2; --mark: #1f5fa6; --fill: #c9dcf1; --alarm: #ab3d17;
  --good: #2b7349; }
@media (prefers-color-scheme: dark) { :root { --page: #151413; --card: #201f1d;
  --ink: #ebe8e2; --soft: #a8a399; --line: #3a3732; --mark: #82b6ee; --fill: #2c4766;
  --alarm: #f09673; --good: #7dc99c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 1480px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.6rem; margin: 0 0 4px; line-height: 1.2; }
h2 { font-size: 1.2rem; margin: 40px 0 12px; }
h3 { font-size: 1rem; margin: 0 0 2px; }
p { margin: 0 0 8px; max-width: 75ch; }
.soft, small, figcaption p { color: var(--soft); font-size: .875rem; }
.alarm { color: var(--alarm); font-weight: 600; }
.grid { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
.tables { align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 560px), 1fr)); }
.wide { grid-column: 1 / -1; }
.narrow { max-width: 760px; }
.card + p { margin-top: 12px; }
.cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.narrow .bar { width: 50%; }
.card, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; margin: 0; min-width: 0; }
.card b { display: block; font-size: 1.75rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.card > span { display: block; font-weight: 600; font-size: .875rem; overflow-wrap: normal; }
.card > small { display: block; line-height: 1.4; }
svg { display: block; width: 100%; height: auto; margin: 8px 0; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .value { fill: var(--ink); font-weight: 600; paint-order: stroke; stroke: var(--card);
  stroke-width: 3px; }
.axis { stroke: var(--line); fill: none; }
.dash { stroke: var(--soft); stroke-dasharray: 4 4; fill: none; }
.line { stroke: var(--mark); stroke-width: 2; fill: none; }
.dot { fill: var(--mark); stroke: var(--card); }
.area { fill: var(--fill); }
line.spread { stroke: var(--mark); stroke-width: 1.5; }
.chosen { fill: none; stroke: var(--alarm); stroke-width: 2.5; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding: 0 0 6px; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-top: 1px solid var(--line);
  vertical-align: top; }
thead th { border-top: 0; color: var(--soft); font-weight: 500; overflow-wrap: normal; }
tbody th { font-weight: 500; min-width: 7em; }
tr > :last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.label { display: none; }
.wide .bar { width: 20%; }
.bar { min-width: 64px; width: 27%; font-variant-numeric: tabular-nums; }
.bar svg { height: 10px; margin: 2px 0 0; background: var(--page); border-radius: 3px; }
.bar .good { fill: var(--good); }
.bar .bad { fill: var(--alarm); }
.bar .plain { fill: var(--fill); }
.bar .whisker { stroke: var(--mark); stroke-width: 2; vector-effect: non-scaling-stroke; }
details > summary { cursor: pointer; }
figure details, section > details { margin-top: 8px; }
.filter { border: 0; padding: 0; margin: 0 0 12px; display: flex; flex-wrap: wrap; gap: 8px; }
.filter legend { padding: 0; margin-bottom: 6px; color: var(--soft); font-size: .875rem; }
.filter input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.filter label, .stage { border: 1px solid var(--line); border-radius: 999px; padding: 2px 12px;
  font-size: .875rem; background: var(--card); cursor: pointer; }
.filter input:checked + label { background: var(--mark); border-color: var(--mark);
  color: var(--card); }
.filter input:focus-visible + label { outline: 3px solid var(--fill); outline-offset: 1px; }
.failure { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  margin: 0 0 8px; padding: 10px 14px; }
.failure summary .stage { cursor: inherit; color: var(--alarm); margin-right: 6px;
  white-space: nowrap; font-size: .8rem; padding: 1px 9px; }
dl { display: grid; grid-template-columns: minmax(72px, max-content) minmax(0, 1fr);
  gap: 6px 16px; margin: 12px 0 4px; font-size: .9375rem; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; }
blockquote { margin: 0 0 8px; padding-left: 10px; border-left: 3px solid var(--mark);
  white-space: pre-line; }
@media (max-width: 480px) { .cards { grid-template-columns: 1fr 1fr; }
  table { font-size: .8125rem; }
  th, td { padding-right: 8px; }
  tbody th { min-width: 5.5em; }
  .wide tbody th { min-width: 8.5em; }
  .bar { min-width: 48px; }
  .narrow .bar { width: 30%; }
  .spread { display: block; }
  .bars thead { display: none; }
  .bars tbody tr { display: grid; grid-template-columns: 1fr 1fr; }
  .bars .bar { width: auto; border: 0; padding-top: 0; }
  .label { display: block; }
  .told tr { display: grid; grid-template-columns: minmax(0, 1fr) 4em 8.5em; }
  .told thead th:last-child { display: none; }
  .told td:last-child { grid-column: 1 / -1; border-top: 0; padding-top: 0;
    color: var(--soft); }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: 8px; } }
"""


def page(
    report: Report,
    comparison: Comparison | None = None,
    fitted: Fit | None = None,
    language: str = "en",
) -> str:
    """The report as an HTML page in ``language`` ("en" or "de"), well-formed XML too.

    Measures and settings keep the names that they have everywhere.
    """
    say = Speech(language)
    sections = [
        _head(report, say),
        _cards(report, say),
        _section(say("What became of the questions"), _outcomes(report.rows, say)),
        _section(say("Plots"), f'<div class="grid">{"".join(plots(report, say))}</div>'),
        _section(say("Breakdown"), _breakdowns(report, say)),
        _section(say("Compared with the earlier run"), _compared(comparison, say)),
        _section(say("Calibration"), _calibrated(fitted, say)),
        _section(say("Questions lost"), _failures(failures(report.rows), say)),
        _section(say("All measures"), _measures(report, say)),
        _section(say("Judged by a language model"), _judged(report, say)),
        _section(say("Settings"), _settings(report, say)),
    ]
    style = _STYLE + "".join(
        f"main:has(#stage{n}:checked) .failure:not(.stage{n}) {{ display: none; }}\n"
        for n in range(len(STAGES))
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        '<link rel="icon" href="data:,"/>\n'
        f"<title>{say('Beleg: evaluation of {} questions', len(report.rows))}</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n<main>\n"
        f"{chr(10).join(filter(None, sections))}\n</main>\n</body>\n</html>\n"
    )


# ---- Head, headline figures, tables ----------------------------------------------------------


def _head(report: Report, say: Speech) -> str:
    settings = report.settings
    keys = ("documents", "passages", "encoder", "date")
    facts = [say.fact("questions", len(report.rows))]
    facts += [say.fact(key, settings[key]) for key in keys if key in settings]
    lines = [f"<h1>{say('How good are the answers?')}</h1><p>{safe(' · '.join(facts))}</p>"]
    alarms = [say("Interrupted: this is what was done so far.")] if report.interrupted else []
    if errors := sum(bool(row.error) for row in report.rows):
        alarms.append(say("Raised an error: {}", errors))
    if keywords := sum(row.by_keywords for row in report.rows):
        alarms.append(f"{say(BY_KEYWORDS)}: {keywords}")
    lines += [f'<p class="alarm">{alarm}</p>' for alarm in alarms]
    intervals = say("In brackets: confidence intervals. {}", say(INTERVALS))
    lines.append(f'<p class="soft">{intervals}</p>')
    return f"<header>{''.join(lines)}</header>"


def _cards(report: Report, say: Speech) -> str:
    cards = []
    for name in HEADLINES if report.metrics["answered_rate"] else SEARCHED:
        if found := report.metrics[name]:
            told = [f"{say(METRICS[name])}."]
            if name in LESS_IS_BETTER:
                told.append(say("Less is better."))
            chance = report.metrics[CHANCE]
            if name == "calibration_error" and chance:
                values = say.figure(chance.value), say.between(chance)
                told.append(say("By chance alone: {} {}.", *values))
            cards.append(
                f'<div class="card"><span>{breakable(name)}</span><b>{say.figure(found.value)}</b>'
                f"<small>{say.between(found)}<br/>{' '.join(told)}</small></div>"
            )
    return f'<div class="cards">{"".join(cards)}</div>'


def _outcomes(rows: Sequence[Row], say: Speech) -> str:
    counts = Counter(row.stage for row in rows)
    body = [
        [
            say(stage or "not lost"),
            counts[stage],
            bar(share, say("{:.1%}", share), "bad" if stage else "good"),
        ]
        for stage in (None, *STAGES)
        if (share := counts[stage] / max(1, len(rows))) or not stage
    ]
    about = say(
        "Not lost: the first citation holds a gold answer, or an unanswerable question was not"
        " answered. Otherwise, the first stage that lost it."
    )
    header = [say(name) for name in ("outcome", "questions", "share")]
    listed = table(header, ["", "number", "bar"], body)
    return f'<p class="soft">{about}</p><div class="card narrow">{listed}</div>'


def _measures(report: Report, say: Speech) -> str:
    body = []
    for name, found in report.metrics.items():
        value, spread = "–", say("does not apply")
        if found:
            value, spread = say.figure(found.value), say.between(found)
        body.append([say.named(name), value, spread, say(METRICS[name])])
    return f'<div class="card told">{_told(say("measure"), body, say)}</div>'


def _told(name: str, rows: Sequence[Sequence[object]], say: Speech) -> str:
    """A table whose last column is a sentence."""
    header = [name, say("value"), say("interval"), say("what it says")]
    return table(header, ["", "number", "number", ""], rows)


def _judged(report: Report, say: Speech) -> str:
    judged = report.judged
    if judged is None:
        return ""
    body = [
        [name, say.figure(found.value) if found else "–", say.between(found), say(JUDGED[name])]
        for name, found in judged.metrics.items()
    ]
    rows = ((row, row.judged) for row in report.rows if row.judged)
    doubted = [(row, said) for row, said in rows if False in (said.faithful, said.answers)]
    about = "The opinion of {} on {} answers, not a measurement; no verdict came on {}."
    values = [safe(judged.model), judged.questions, judged.failed]
    if judged.commonest:
        about = about.replace("{}.", "{}, most often for {}.")
        values.append(safe(judged.commonest))
    items = "".join(
        f"<li><bdi>{_short(row.question)}</bdi> <small>{safe(row.id)}</small>:"
        f" {_verdict(said, say)}</li>"
        for row, said in doubted
    )
    summary = f"<summary>{say('{} doubted', len(doubted))}</summary>"
    return (
        f'<p class="soft">{say(about, *values)}</p>'
        f'<div class="card told">{_told(say("judged"), body, say)}</div>'
        + (f"<details>{summary}<ul>{items}</ul></details>" if doubted else "")
    )


def _verdict(found: Verdict, say: Speech) -> str:
    if found.error:
        return say("no verdict: {}", safe(found.error))
    faithful = "faithful" if found.faithful else "not faithful"
    answers = "answers" if found.answers else "does not answer"
    said = say(f"{faithful}, {answers}")
    return f"{said}: {safe(found.reason)}" if found.reason else said


def _settings(report: Report, say: Speech) -> str:
    body = [[str(key), safe(_shown(value))] for key, value in report.settings.items()]
    listed = table([say("setting"), say("value")], ["", ""], body)
    return f'<div class="card narrow">{listed}</div>'


def _breakdowns(report: Report, say: Speech) -> str:
    several = {name: groups for name, groups in report.breakdown.items() if len(groups) > 1}
    # Documents may be many and have long names: last, and over the whole width.
    cards = [
        f'<div class="card{" wide" if name == "document" else ""}">'
        f"{_breakdown(name, several[name], say)}</div>"
        for name in sorted(several, key="document".__eq__)
    ]
    if not cards:
        return ""
    note = say("Of false_abstention less is better, of the others more.")
    return f'<p class="soft">{note}</p><div class="grid tables bars">{"".join(cards)}</div>'


def _breakdown(by: str, groups: Sequence[Group], say: Speech) -> str:
    shown = [metric for metric in BARS if any(group.metrics[metric] for group in groups)]

    def worst(group: Group) -> float:
        # Of two unanswerable questions one is soon answered: that makes no group the worst.
        found = [(group.metrics[metric], metric in LESS_IS_BETTER) for metric in shown[:2]]
        shares = [(1 - held.value if less else held.value) for held, less in found if held]
        return min(shares, default=math.inf)

    if len(groups) > GROUPS:
        groups = sorted(groups, key=worst)
    rows = [
        [
            say(group.name) if by == "question_word" or group.name == NOWHERE else group.name,
            group.questions,
            *(
                f'<small class="label">{breakable(metric)}</small>'
                f"{_interval_bar(group.metrics[metric], say)}"
                for metric in shown
            ),
        ]
        for group in groups
    ]
    name = say(by.replace("_", " "))
    header, kinds = [name, say("questions"), *shown], ["", "number", *len(shown) * ["bar"]]
    first = table(header, kinds, rows[:GROUPS], say("By {}", name))
    if len(rows) <= GROUPS:
        return first
    rest = table(header, kinds, rows[GROUPS:], say("By {}, the others", name))
    return (
        f'<p class="soft">{say("the worst {} of {}", GROUPS, len(rows))}</p>{first}'
        f"<details><summary>{say('{} others', len(rows) - GROUPS)}</summary>{rest}</details>"
    )


def _interval_bar(found: Interval | None, say: Speech) -> str:
    """A measure as text and bar, or a dash where it does not apply."""
    if found is None:
        return "–"
    return bar(found.value, say("{:.3f}", found.value), "plain", (found.low, found.high))


# ---- Questions, lost or changed --------------------------------------------------------------


def _failures(lost: Sequence[Row], say: Speech) -> str:
    if not lost:
        return f"<p>{say('None.')}</p>"
    chips = ['<input type="radio" name="stage" id="all" checked="checked"/>']
    chips.append(f'<label for="all">{say("all {}", len(lost))}</label>')
    counts = Counter(row.stage for row in lost)
    for number, stage in enumerate(STAGES):
        if count := counts[stage]:
            chips.append(f'<input type="radio" name="stage" id="stage{number}"/>')
            chips.append(f'<label for="stage{number}">{say(stage)} {count}</label>')
    note = ""
    if len(lost) > FAILURES:
        told = say("The worst {} of {}; the JSON report has them all.", FAILURES, len(lost))
        note = f"<p>{told}</p>"
    order = say("The worst first: errors, then wrong answers from the surest on.")
    return (
        f'<p class="soft">{order}</p>{note}'
        f'<fieldset class="filter"><legend>{say("Lost by")}</legend>{"".join(chips)}</fieldset>'
        f"{''.join(_failure(row, say) for row in lost[:FAILURES])}"
    )


def _failure(row: Row, say: Speech) -> str:
    stage = row.stage or ""
    rank = say("beyond the passages searched") if row.rank is None else str(row.rank)
    entries = [
        (say("question"), safe(row.question) if len(row.question) > QUESTION else ""),
        (say("gold"), "<br/>".join(map(safe, row.gold)) or say("the documents do not say")),
        (say("error"), safe(row.error)),
        (say("answer"), safe(row.answer)),
        (say("cited"), "".join(_quote(cited, say) for cited in row.citations)),
        (say("withheld"), "".join(_quote(cited, say) for cited in row.withheld)),
        (say("rank of gold"), rank if row.answerable and not row.error else ""),
        (say("confidence"), "" if row.confidence is None else say("{:.3f}", row.confidence)),
        (say("language model’s opinion"), _verdict(row.judged, say) if row.judged else ""),
        (say("direction"), safe(row.direction)),
        (say("document"), safe(row.document or "")),
        ("id", safe(row.id)),
    ]
    listed = "".join(f'<dt>{name}</dt><dd dir="auto">{text}</dd>' for name, text in entries if text)
    return (
        f'<details class="failure stage{STAGES.index(stage)}"><summary>'
        f'<span class="stage">{say(stage)}</span>'
        f'<bdi lang="{safe(row.language)}">{_short(row.question)}</bdi></summary>'
        f"<dl>{listed}</dl></details>"
    )


def _quote(cited: Cited, say: Speech) -> str:
    place = safe(say("{}, characters {}–{}", cited.source, cited.start, cited.end))
    if not cited.exact:
        place += f' <span class="alarm">{say("not what stands there")}</span>'
    return f'<blockquote dir="auto">{safe(cited.quote)}</blockquote><small>{place}</small>'


def _compared(comparison: Comparison | None, say: Speech) -> str:
    if comparison is None:
        return ""
    body = [
        [
            say.named(d.metric),
            say("{:.3f}", d.before),
            say("{:.3f}", d.after),
            f'{say("{:+.3f}", d.change.value)} <small class="spread">'
            f"{say.between(d.change, '{:+.3f}')}</small>",
            "–" if d.p is None else say("{:.3f}", d.p),
        ]
        for d in comparison.differences
    ]
    header = [*(say(name) for name in ("measure", "before", "now", "difference")), "p"]
    listed = table(header, ["", *4 * ["number"]], body)
    won, lost = len(comparison.won), len(comparison.lost)
    lists = "".join(
        f"<details><summary>{count}</summary>"
        f"<ul>{''.join(_changed(*pair, say) for pair in pairs)}</ul></details>"
        for count, pairs in (
            (say("{} won", won), comparison.won),
            (say("{} lost", lost), comparison.lost),
        )
        if pairs
    )
    kind = "alarm" if comparison.altered or comparison.interrupted else "soft"
    shared = say("Questions in both runs: {}.", comparison.shared)
    return (
        f'<p class="{kind}">{safe(say.earlier(comparison))}</p>'
        f'<p class="soft">{shared} {say(PAIRED)}</p>'
        f'<div class="card narrow">{listed}</div>'
        f"<p>{say('Questions won: {}, lost: {}.', won, lost)}</p>{lists}"
    )


def _changed(before: Row, after: Row, say: Speech) -> str:
    said = "".join(
        f'<dt>{when}</dt><dd dir="auto">{safe(row.answer or row.error)}'
        f"{f' <small>{say(row.stage)}</small>' if row.stage else ''}</dd>"
        for when, row in ((say("before"), before), (say("now"), after))
    )
    return (
        f"<li><bdi>{_short(after.question)}</bdi> <small>{safe(after.id)}</small>"
        f"<dl>{said}</dl></li>"
    )


def _calibrated(fitted: Fit | None, say: Speech) -> str:
    if fitted is None:
        return ""
    body = [
        [
            name,
            *(
                f'{say.figure(held.value)} <small class="spread">{say.between(held)}</small>'
                if held
                else "–"
                for held in (before, after)
            ),
        ]
        for name, before, after in say.effects(fitted)
    ]
    held = fitted.calibration
    kept = "It is kept." if fitted.better else "It makes nothing better, and is not kept."
    about = say(
        "All other figures on this page are from before this calibration. After: of questions that"
        " it was not fitted on, by folds. {}",
        say(kept),
    )
    if fitted.left_out:
        about += f" {say('Left out, answered by keywords: {}.', fitted.left_out)}"
    header = [say(name) for name in ("figure", "before", "after")]
    listed = table(header, ["", "number", "number"], body)
    values = held.threshold, held.slope, held.intercept
    told = say("Threshold {:.4g}, slope {:.4g}, intercept {:.4g}.", *values)
    return f'<p class="soft">{about}</p><div class="card narrow">{listed}</div><p>{told}</p>'


# ---- Pieces ----------------------------------------------------------------------------------


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _short(text: str) -> str:
    return safe(text if len(text) <= QUESTION else f"{text[: QUESTION - 1]}…")


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)
