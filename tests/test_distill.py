"""The recipe in small: a made-up language is learnt from a few hundred pairs."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models
from torch.nn import functional

from index.distill.__main__ import main
from index.distill.lessons import (
    Lesson,
    drop_words,
    finding_loss,
    read_lessons,
    sentence_scores,
    without_special,
)
from index.distill.pairs import Pair as P
from index.distill.pairs import clean, read_dictionary, read_pairs, windows
from index.distill.train import streamed, token_loss
from index.distill.vocabulary import extend_vocabulary, translate_pieces
from index.embed import BUNDLED
from index.errors import InputError
from index.late import matches, mean_cosines
from index.vectors import Encoding, unit
from tests.test_distill_base import tiny_models

WHO = {
    "zul": "the old teacher", "mirok": "a tired farmer", "pasin": "my younger sister",
    "gorbal": "the last king", "tesk": "an angry sailor", "ulva": "the village doctor",
}  # fmt: skip
DOES = {
    "wexa": "buys", "tolim": "paints", "sarun": "forgets", "nebo": "repairs", "hif": "finds",
    "wexata": "bought", "tolimta": "painted", "sarunta": "forgot",
}  # fmt: skip
WHAT = {
    "krast": "a house", "vimel": "the bicycle", "dofra": "an old book", "hulpi": "the boat",
    "jonk": "some bread", "prell": "a letter",
}  # fmt: skip
WHERE = {
    "anki": "in the city", "berul": "near the river", "osta": "late at night",
    "quev": "behind the church", "drim": "after the war", "lash": "in the mountains",
}  # fmt: skip


def pairs_file(folder: Path) -> Path:
    """700 of the 1,728 sentences of a small language, its verb last, shuffled by a seed."""
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


def figures(told: str, name: str) -> tuple[float, float]:
    """The numbers before and after of a line such as "loss 2.1 -> 0.4; recall@1 ..."."""
    before, _, after = told.partition(f"{name} ")[2].replace(";", "").split()[:3]
    return float(before), float(after)


def test_a_language_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, rng = tmp_path / "model", random.Random(1)
    lessons = ["--lessons", str(lessons_folder(tmp_path / "lessons", 12, rng))]
    lessons += ["--test-lessons", str(lessons_folder(tmp_path / "test", 6, rng))]
    pairs = str(pairs_file(tmp_path))
    main([pairs, "--quick", "--hold-out", "150", *lessons, "--out", str(out)])
    told = capsys.readouterr().out
    before, after = figures(told, "loss")
    assert after < 0.7 * before
    before, after = figures(told, "recall@1")
    assert after > max(0.9, before)
    before, after = figures(told, "first")
    assert after > max(0.9, before)
    model = SentenceTransformer(str(out), device="cpu")
    foreign, english, other = model.encode(
        [
            "zul krast anki wexa.",
            "the old teacher buys a house in the city.",
            "the last king forgets some bread after the war.",
        ],
        normalize_embeddings=True,
    )
    assert foreign @ english > foreign @ other + 0.05


def test_teacher_and_start_may_have_other_vocabularies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, start = tiny_models(tmp_path)
    quick = [str(pairs_file(tmp_path)), "--quick", "--hold-out", "50", "--rate", "8"]
    quick += ["--teacher", str(teacher), "--start", str(start)]
    weights = [load_file(start / "model.safetensors")]
    for blend in ("1", "0.25"):
        out = tmp_path / blend
        main([*quick, "--blend", blend, "--out", str(out)])
        before, after = figures(capsys.readouterr().out, "loss")
        assert after < 0.7 * before
        weights.append(load_file(out / "model.safetensors"))
        cut = Tokenizer.from_file(str(start / "tokenizer.json")).to_str()
        assert Tokenizer.from_file(str(out / "tokenizer.json")).to_str() == cut
    first, learnt, blended = weights
    assert first.keys() == learnt.keys()
    moved = [name for name in first if (learnt[name] - first[name]).abs().max() > 0.01]
    assert len(moved) > 20
    for name in moved:
        wanted = first[name].float().lerp(learnt[name].float(), 0.25)
        torch.testing.assert_close(blended[name].float(), wanted, atol=2e-3, rtol=0)


def test_only_models_of_one_kind_are_taught(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, start = tiny_models(tmp_path)
    out = tmp_path / "out"
    command = [str(pairs_file(tmp_path)), "--quick", "--out", str(out)]
    pooling = start / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"pooling_mode": "cls", "embedding_dimension": 32}), "utf-8")
    for options, said in (
        (["--start", str(tmp_path)], "is no folder"),
        (["--teacher", "no/where", "--start", str(teacher)], "no/where is no folder"),
        (["--start", str(start)], "averages its tokens"),
        (["--start", str(teacher)], "dimensions"),
        (["--teacher", str(teacher), "--lessons", str(tmp_path)], "no NAME"),
    ):
        with pytest.raises(SystemExit) as left:
            main([*command, *options])
        assert left.value.code == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
    assert not out.exists()


def test_a_vocabulary_grows_at_its_end() -> None:
    known = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    texts = [" ".join(words) for words in product(WHO, WHAT, WHERE, DOES)]
    extended = extend_vocabulary(known, texts, 20)
    size = known.get_vocab_size()
    assert size < extended.get_vocab_size() <= size + 20
    assert [extended.id_to_token(i) for i in range(size)] == [
        known.id_to_token(i) for i in range(size)
    ]
    text = "sarunta, wexa. tolimta"
    words = ("▁sarun", "ta", ",", "▁wexa", ".", "▁tolim", "ta")
    assert extended.encode(text).tokens == ["<s>", *words, "</s>"]
    assert extended.decode(extended.encode(text).ids) == text
    plain = "The ambassador was recalled. Der Botschafter wurde abberufen."
    assert extended.encode(plain).ids == known.encode(plain).ids


def test_another_kind_of_vocabulary_does_not_grow() -> None:
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(InputError, match="WordPiece"):
        extend_vocabulary(words, ["b"], 1)


def test_batches_hold_every_pair_once_a_pass_and_no_more_tokens() -> None:
    rng = random.Random(0)
    pairs = [P("ö" * rng.randint(1, 90), "x" * rng.randint(1, 90), str(i)) for i in range(500)]
    stream = streamed(pairs, 256, rng)
    for _ in range(2):
        seen: list[str] = []
        while len(seen) < len(pairs):
            batch = next(stream)
            longest = max(max(len(p.foreign) * 2, len(p.english)) for p in batch)
            assert len(batch) * (longest // 3 + 4) <= 256
            seen += [pair.origin for pair in batch]
        assert sorted(seen, key=int) == [pair.origin for pair in pairs]


def test_token_loss_is_the_best_cosine_of_each_token() -> None:
    rng = np.random.default_rng(0)
    rows = [unit(rng.normal(size=(n, 4)).astype(np.float32)) for n in (3, 2)]
    taught = [Encoding(x.mean(0), x, np.zeros((len(x), 2), int)) for x in rows]
    student = torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    wanted = [
        (teacher.tokens @ unit(row[:size].numpy()).T).max(1).mean()
        for teacher, row, size in zip(taught, student, (5, 2), strict=True)
    ]
    assert float(token_loss(student, mask, taught)) == pytest.approx(1 - np.mean(wanted), abs=1e-6)


def test_finding_takes_one_text_a_story() -> None:
    """Vectors by the first token: a question's passage, but not its translation, is like it."""

    def lesson(token: int, story: str, *, answered: bool = True) -> Lesson:
        right = np.full((1, 1), answered)
        return Lesson([[token]], [np.zeros(1, int)], [[token]], right, right, story)

    def encode(ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        asked.append([row[0] for row in ids])
        return torch.eye(4)[[row[0] for row in ids]], torch.zeros(0), torch.zeros(0)

    asked: list[list[int]] = []
    lessons = [lesson(0, "a"), lesson(0, "a"), lesson(1, "b"), lesson(2, "c", answered=False)]
    loss = finding_loss(lessons, encode, random.Random(0))
    assert asked == [[0, 1], [0, 1]]
    assert loss is not None
    assert float(loss) == pytest.approx(1.5 * np.log1p(np.exp(-40)), abs=1e-6)
    assert finding_loss(lessons[:2], encode, random.Random(0)) is None


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["pairs.tsv"], "150 pairs, 120 of them usable"),
        (["pairs.tsv"], "at least 100 beside the 200 held out"),
        (["pairs.tsv", "--hold-out", "-50"], "-50 pairs held out"),
        (["pairs.tsv", "--dictionary", "binary"], "binary: not UTF-8 text"),
        (["pairs.tsv", "--dictionary", "gone"], "gone: No such file or directory"),
        (["gone.tsv"], "gone.tsv: No such file or directory"),
        (["binary"], "binary: not UTF-8 text"),
    ],
)
def test_bad_pairs_are_told_in_one_line(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"nummer {i % 120}\tnumber {i % 120}" for i in range(150)]  # 30 of them twice
    Path("pairs.tsv").write_text("\n".join(lines), "utf-8")
    Path("binary").write_bytes(bytes(range(256)))
    with pytest.raises(SystemExit) as left:
        main([*options, "--out", "model"])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Errno" not in told
    assert told.count("\n") == 1
    assert not Path("model").exists()


def test_short_pairs_are_dropped_of_test_suites_only() -> None:
    def left(origin: str) -> int:
        pairs = [P(f"nummer {i}", f"number {i}", origin) for i in range(200)]
        return len(clean(pairs, random.Random(0)))

    assert left("") == left("my own") == 200
    assert 20 < left("wmt-systems") < 80


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
    (lesson,) = read_lessons([folder], Tokenizer.from_file(str(BUNDLED / "tokenizer.json")))
    assert lesson.right.sum(1).tolist() == [1] * 8 + [0]
    for ids, of in zip(lesson.passages, lesson.sentence, strict=True):
        assert len(ids) == len(of)
        assert (of[1:-1] >= 0).all()  # all tokens but the special ones are of some sentence
        assert (of[0], of[-1]) == (-1, -1)
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
        [[1, 5, 2]], [np.asarray([-1, 0, -1])], [list(range(40)), [1, 7, 2]], right, holds, "a"
    )
    long, short = drop_words(lesson, 0.3, random.Random(0)).questions
    assert (long[0], long[-1], short) == (0, 39, [1, 7, 2])
    assert long == sorted(long)
    assert 20 < len(long) < 38


def test_a_lesson_whose_answer_is_not_in_its_text_is_named(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    with pytest.raises(InputError, match="no NAME"):
        read_lessons([tmp_path], tokenizer)
    (tmp_path / "a.de.txt").write_text("Ein Satz.", "utf-8")
    rows = tmp_path / "a.questions.en.jsonl"
    rows.write_text('{"id": "q7", "question": "What?", "answers": ["zwei"]}\n', "utf-8")
    with pytest.raises(InputError, match="q7"):
        read_lessons([tmp_path], tokenizer)
    rows.write_text('{"id": "q8", "question": "What?", "answers": ["Satz"]}\n', "utf-8")
    assert [x.right.tolist() for x in read_lessons([tmp_path], tokenizer)] == [[[True]]]
    # An answer over the end of a sentence teaches nothing, but is no mistake.
    rows.write_text('{"id": "q9", "question": "What?", "answers": ["Satz. Noch"]}\n', "utf-8")
    (tmp_path / "a.de.txt").write_text("Ein Satz. Noch ein Satz.", "utf-8")
    assert read_lessons([tmp_path], tokenizer) == []
    rows.write_text("{", "utf-8")
    with pytest.raises(InputError, match=r"a\.questions\.en\.jsonl:1"):
        read_lessons([tmp_path], tokenizer)
