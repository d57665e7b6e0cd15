"""The lexicon from pairs of a made-up language, and its command."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from index.distill.lexicon import lexicon, main
from index.distill.pairs import Pair, read_pairs
from index.errors import InputError
from index.lexical import stem, words
from tests.test_distill import DOES, WHAT, WHERE, WHO, pairs_file


def test_words_that_translate_each_other_are_found(tmp_path: Path) -> None:
    found = lexicon(read_pairs(pairs_file(tmp_path))[:400], "xx")
    assert [strength for *_, strength in found] == sorted((s for *_, s in found), reverse=True)
    best = {foreign: english for english, foreign, _ in reversed(found)}
    for foreign, english in (WHO | DOES | WHAT | WHERE).items():
        assert best[foreign] in {stem(word, "en") for word in words(english)}, foreign
    strength = {(english, foreign): s for english, foreign, s in found}
    assert strength[stem("buys", "en"), "wexa"] > 0.9
    # "old" stands for one word of two: zul (the old teacher) and dofra (an old book).
    assert 0.3 < strength["old", "zul"] < 0.9
    assert ("old", "wexa") not in strength


def test_rare_and_long_company_says_nothing() -> None:
    pairs = [Pair("Haus", "house"), Pair("Haus", "the house"), Pair("Baum", "tree")]
    assert [(e, f) for e, f, _ in lexicon(pairs)] == [(stem("house", "en"), "haus")]
    with pytest.raises(InputError, match="no pair"):
        lexicon([Pair("Haus " * 30, "house " * 30)])


def test_the_command_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "pairs.tsv", tmp_path / "lexicon.tsv.gz"
    file.write_text(
        "Häuser\thouses\nEin Haus\tA house\nBäume\ttrees\nDer Baum\tThe tree\n", "utf-8"
    )
    main([str(file), "--out", str(out)])
    assert gzip.decompress(out.read_bytes()).decode() == "hous\thaus\t1.00\ntree\tbaum\t1.00\n"
    file.write_text("one column\n", "utf-8")
    with pytest.raises(SystemExit) as left:
        main([str(file), "--out", str(out)])
    assert left.value.code == 2
    assert "pairs.tsv:1" in capsys.readouterr().err
