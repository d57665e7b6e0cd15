"""The recipe in small: a made-up language is learnt from a few hundred pairs."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from index.distill import Pair as P
from index.distill import main, read_dictionary, read_pairs, translate_pieces, windows
from index.errors import InputError

WHO = {
    "zul": "the old teacher", "mirok": "a tired farmer", "pasin": "my younger sister",
    "gorbal": "the last king", "tesk": "an angry sailor", "ulva": "the village doctor",
}  # fmt: skip
DOES = {"wexa": "buys", "tolim": "paints", "sarun": "forgets", "nebo": "repairs", "hif": "finds"}
WHAT = {
    "krast": "a house", "vimel": "the bicycle", "dofra": "an old book", "hulpi": "the boat",
    "jonk": "some bread", "prell": "a letter",
}  # fmt: skip
WHERE = {
    "anki": "in the city", "berul": "near the river", "osta": "late at night",
    "quev": "behind the church", "drim": "after the war", "lash": "in the mountains",
}  # fmt: skip


def pairs_file(folder: Path) -> Path:
    """700 of the 1,080 sentences of a small language, its verb last, shuffled by a seed."""
    rows = [
        f"{a} {e} {g} {c}.\t{b} {d} {f} {h}."
        for (a, b), (c, d), (e, f), (g, h) in product(
            *(part.items() for part in (WHO, DOES, WHAT, WHERE))
        )
    ]
    random.Random(0).shuffle(rows)
    file = folder / "pairs.tsv"
    file.write_text("\n".join(rows[:700]), "utf-8")
    return file


def test_a_language_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    main([str(pairs_file(tmp_path)), "--quick", "--hold-out", "150", "--out", str(out)])
    words = capsys.readouterr().out.replace(",", "").replace(";", "").split()
    loss = words.index("loss")
    recall = words.index("recall@1")
    assert float(words[loss + 3]) < 0.7 * float(words[loss + 1])
    assert float(words[recall + 3]) > float(words[recall + 1])
    assert float(words[recall + 3]) > 0.9
    model = SentenceTransformer(str(out), device="cpu")
    foreign, english, other = model.encode(
        [
            "zul krast anki wexa.",
            "the old teacher buys a house in the city.",
            "the last king forgets some bread after the war.",
        ],
        normalize_embeddings=True,
    )
    assert foreign @ english > foreign @ other + 0.1


def test_ibm_model_1_learns_who_translates_whom() -> None:
    """The textbook example: das Haus, das Buch, ein Buch."""
    foreign = [[0, 1], [0, 2], [3, 2]]
    english = [[10, 11], [10, 12], [13, 12]]
    f, e, t = translate_pieces(foreign, english, rounds=20)
    best = {int(i): int(e[f == i][np.argmax(t[f == i])]) for i in np.unique(f)}
    assert best == {0: 10, 1: 11, 2: 12, 3: 13}
    for i in np.unique(f):
        assert t[f == i].sum() == pytest.approx(1)


def test_read_dictionary(tmp_path: Path) -> None:
    file = tmp_path / "de-en"
    file.write_text(
        "# comment\nHaus {n}; Heim [geh.] | Häuser {pl} :: house | houses\nkaputt :: a | b\n",
        "utf-8",
    )
    found = [(pair.foreign, pair.english) for pair in read_dictionary(file)]
    assert found == [("Haus", "house"), ("Heim", "house"), ("Häuser", "houses")]


def test_pairs_with_a_missing_column_are_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.tsv"
    file.write_text("ja\tyes\nnein\n", "utf-8")
    with pytest.raises(InputError, match=r"bad\.tsv:2"):
        read_pairs(file)
    file.write_text("ja\tyes\n", "utf-8")
    with pytest.raises(SystemExit, match="usable pairs"):
        main([str(file), "--out", str(tmp_path / "m")])


def test_windows_stay_within_one_origin() -> None:
    lines = [P(f"f{i}", f"e{i}", "a" if i < 6 else "b") for i in range(12)]
    joined = windows(lines, random.Random(0), passes=3)
    assert joined
    for pair in joined:
        numbers = [int(word[1:]) for word in pair.english.split()]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len({n < 6 for n in numbers}) == 1
