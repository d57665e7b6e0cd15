"""The recipe in small: a made-up language is learnt from a few hundred pairs."""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch.nn import functional

from index.distill.__main__ import main
from index.distill.lessons import (
    Lesson,
    drop_words,
    read_lessons,
    sentence_scores,
    without_special,
)
from index.distill.pairs import Pair as P
from index.distill.pairs import read_dictionary, read_pairs, windows
from index.distill.vocabulary import translate_pieces
from index.embed import BUNDLED, Encoding, unit
from index.errors import InputError
from index.late import matches, mean_cosines

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


def lessons_folder(folder: Path, count: int, rng: random.Random) -> Path:
    """Texts of eight sentences of that language, with English questions about who does it."""
    folder.mkdir()
    for n in range(count):
        told = rng.sample(list(product(WHO, DOES, WHAT, WHERE)), 8)
        text = " ".join(f"{who.title()} {what} {where} {does}." for who, does, what, where in told)
        rows: list[dict[str, object]] = [
            {
                "id": f"{does}-{what}-{where}",
                "question": f"Who {DOES[does]} {WHAT[what]} {WHERE[where]}?",
                "answers": [f"{who.title()} {what} {where} {does}"],
            }
            for who, does, what, where in told
        ]
        rows.append({"id": "x", "question": "Why is the sea salty?", "answerable": False})
        (folder / f"t{n}.de.txt").write_text(text, "utf-8")
        lines = "\n".join(json.dumps(row) for row in rows)
        (folder / f"t{n}.questions.en.jsonl").write_text(lines, "utf-8")
    return folder


def test_a_language_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, rng = tmp_path / "model", random.Random(1)
    lessons = ["--lessons", str(lessons_folder(tmp_path / "lessons", 12, rng))]
    lessons += ["--test-lessons", str(lessons_folder(tmp_path / "test", 6, rng))]
    pairs = str(pairs_file(tmp_path))
    main([pairs, "--quick", "--hold-out", "150", *lessons, "--out", str(out)])
    words = capsys.readouterr().out.replace(",", "").replace(";", "").split()
    first = words.index("first")
    assert float(words[first + 3]) > max(0.95, float(words[first + 1]))
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


def test_lessons_score_sentences_as_the_answerer_does(tmp_path: Path) -> None:
    """Against index.late, which the answerer uses, on made-up token vectors."""
    folder = lessons_folder(tmp_path / "lessons", 1, random.Random(2))
    (lesson,) = read_lessons(folder, Tokenizer.from_file(str(BUNDLED / "tokenizer.json")))
    assert lesson.right.sum(1).tolist() == [1] * 8 + [0]
    torch.manual_seed(0)
    passages = torch.randn(len(lesson.passages), max(map(len, lesson.passages)), 16)
    vectors = functional.normalize(torch.randn(9, 16), dim=1)
    tokens = torch.randn(9, 12, 16)
    mask = torch.ones(9, 12, dtype=torch.long)
    mask[:, 9:] = 0
    late, mean = sentence_scores(*without_special(vectors, tokens, mask), passages, lesson)
    of = np.concatenate(lesson.sentence)
    states = np.concatenate(
        [p[: len(s)] for p, s in zip(passages.numpy(), lesson.sentence, strict=True)]
    )
    sentences = [unit(states[of == i]) for i in range(lesson.right.shape[1])]
    sums = [states[of == i] for i in range(lesson.right.shape[1])]
    for n in range(9):
        asked = Encoding(vectors[n].numpy(), unit(tokens[n, 1:8].numpy()), np.zeros((7, 2), int))
        np.testing.assert_allclose(late[n], matches(asked, sentences).mean(0), rtol=1e-4)
        np.testing.assert_allclose(mean[n], mean_cosines(asked, sums), rtol=1e-4, atol=1e-6)


def test_words_are_dropped_but_never_special_tokens() -> None:
    right, holds = np.ones((2, 1), bool), np.ones((2, 1), bool)
    lesson = Lesson(
        [[1, 5, 2]], [np.asarray([-1, 0, -1])], [list(range(40)), [1, 7, 2]], right, holds
    )
    long, short = drop_words(lesson, 0.3, random.Random(0)).questions
    assert (long[0], long[-1], short) == (0, 39, [1, 7, 2])
    assert long == sorted(long)
    assert 20 < len(long) < 38


def test_a_lesson_whose_answer_is_not_in_its_text_is_named(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    with pytest.raises(InputError, match="no NAME"):
        read_lessons(tmp_path, tokenizer)
    (tmp_path / "a.de.txt").write_text("Ein Satz.", "utf-8")
    rows = tmp_path / "a.questions.en.jsonl"
    rows.write_text('{"id": "q7", "question": "What?", "answers": ["zwei"]}\n', "utf-8")
    with pytest.raises(InputError, match="q7"):
        read_lessons(tmp_path, tokenizer)
    rows.write_text("{", "utf-8")
    with pytest.raises(InputError, match=r"a\.questions\.en\.jsonl:1"):
        read_lessons(tmp_path, tokenizer)
