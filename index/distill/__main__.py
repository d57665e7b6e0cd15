"""The command line: ``python -m index.distill PAIRS ... --out FOLDER``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import index.distill
from index.distill.pairs import read_dictionary, read_pairs
from index.distill.train import LEAST, QUICK, Recipe, distill
from index.embed import BUNDLED
from index.errors import BelegError


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: ``python -m index.distill PAIRS ... --out FOLDER``."""
    parser = argparse.ArgumentParser(
        prog="python -m index.distill", description=index.distill.__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "pairs",
        nargs="+",
        type=Path,
        help=f"TSV (.gz): foreign, English[, origin]; at least {LEAST} pairs beside those held out",
    )
    parser.add_argument("--out", type=Path, required=True, help="the new model's folder")
    parser.add_argument("--teacher", type=Path, default=BUNDLED, help="a folder; default: bundled")
    parser.add_argument("--start", type=Path, help="what learns: a folder; default: the teacher's")
    parser.add_argument("--dictionary", type=Path, help="a Ding dictionary (de :: en)")
    parser.add_argument("--documents", default="", help="origins so beginning are in text order")
    parser.add_argument(
        "--lessons", nargs="+", type=Path, default=[], help="folders of texts with questions"
    )
    parser.add_argument(
        "--test-lessons", nargs="+", type=Path, default=[], help="such folders, only to measure"
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1.0, help="times the usual learning rates")
    parser.add_argument(
        "--vocabulary", type=int, help="word pieces to add; default: 28000, none with --start"
    )
    parser.add_argument(
        "--blend", type=float, default=1.0, help="how far to go from the start to what was learnt"
    )
    parser.add_argument("--hold-out", type=int, default=200, help="pairs kept for measuring")
    parser.add_argument("--quick", action="store_true", help="a trial of a minute or two")
    args = parser.parse_args(arguments)
    usual = QUICK if args.quick else Recipe()
    added = 0 if args.start else usual.added
    recipe = replace(
        usual,
        minutes=args.minutes,
        added=added if args.vocabulary is None else args.vocabulary,
        body_rate=usual.body_rate * args.rate,
        word_rate=usual.word_rate * args.rate,
        new_rate=usual.new_rate * args.rate,
        blend=args.blend,
    )
    try:
        report = distill(
            [pair for path in args.pairs for pair in read_pairs(path)],
            out=args.out,
            teacher=args.teacher,
            start=args.start,
            dictionary=read_dictionary(args.dictionary) if args.dictionary else (),
            documents=args.documents,
            lessons=args.lessons,
            test_lessons=args.test_lessons,
            recipe=recipe,
            hold_out=args.hold_out,
        )
    except (BelegError, OSError) as error:
        parser.exit(2, f"index.distill: {error}\n")
    told = [
        f"steps {len(report.losses)}, loss {np.mean(report.losses[:10]):.3f} ->"
        f" {np.mean(report.losses[-10:]):.3f}",
        f"held-out recall@1 {report.recall[0]:.3f} -> {report.recall[1]:.3f}",
        f"saved in {args.out}",
    ]
    if report.answered is not None:
        told.insert(
            2, f"answering sentence first {report.answered[0]:.3f} -> {report.answered[1]:.3f}"
        )
    sys.stdout.write("; ".join(told) + "\n")


if __name__ == "__main__":
    main()
