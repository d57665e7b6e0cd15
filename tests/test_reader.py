"""The reader: taught on a few texts, saved, loaded, and asked to read."""

from __future__ import annotations

import copy
import json
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from index.distill import squad
from index.distill.lessons import answering, read_texts
from index.distill.reader import Page, Pupil, Recipe, examples, main, material, teach
from index.embed import BUNDLED, SentenceTransformerEncoder
from index.late import sentence_of_tokens
from index.reader import LOWER, Reader, joined, run, states_of, upper_half
from tests.test_distill import DOES, WHAT, WHERE, WHO


@pytest.fixture(scope="module")
def encoder() -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder(BUNDLED, halfway=True)


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight texts of five sentences, with questions about who does it and one about the sea."""
    folder, rng = tmp_path_factory.mktemp("lessons"), random.Random(3)
    for n in range(8):
        told = rng.sample(list(product(*(part.values() for part in (WHO, DOES, WHAT, WHERE)))), 5)
        who = [f"{person[0].upper()}{person[1:]}" for person, *_ in told]
        did = [" ".join(rest) for _, *rest in told]
        text = " ".join(f"{a} {b}." for a, b in zip(who, did, strict=True))
        rows: list[dict[str, object]] = [
            {"question": f"Who {b}?", "answers": [a], "sentence": f"{a} {b}."}
            for a, b in zip(who, did, strict=True)
        ]
        rows.append({"question": "Why is the sea salty?"})
        (folder / f"t{n}.en.txt").write_text(text, "utf-8")
        lines = "\n".join(map(json.dumps, rows))
        (folder / f"t{n}.questions.en.jsonl").write_text(lines, "utf-8")
    return folder


@pytest.mark.parametrize("whole", [False, True])
def test_a_taught_reader_reads(
    encoder: SentenceTransformerEncoder, lessons: Path, tmp_path: Path, whole: bool
) -> None:
    file = tmp_path / "new" / "reader.safetensors"
    recipe = Recipe(
        steps=30, batch=4, pages=3, whole=whole, rate=2e-3, whole_rate=3e-4, head_rate=1e-2
    )
    losses = teach([lessons], file, encoder=encoder, recipe=recipe)
    assert len(losses) == 30
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    assert file.stat().st_size < (30e6 if whole else 5e6)
    reader = Reader(encoder.network.encoder.layer, file)
    pages, asked = material([lessons], encoder)
    assert {page.text for page in pages} == set(range(8))
    question = asked[0]
    readings = reader.read(
        question.encoding,
        [page.encoding for page in pages],
        [sentence_of_tokens(page.passage, page.encoding) for page in pages],
    )
    assert len(readings) == len(pages)
    for page, reading in zip(pages, readings, strict=True):
        assert reading.sentences.shape == (len(page.passage.sentences),)
        assert np.isfinite(reading.sentences).all()
    alone = reader.read(question.encoding, [pages[0].encoding], [pages[0].sentences])[0]
    np.testing.assert_allclose(alone.sentences, readings[0].sentences, atol=0.1)


def changed(encoder: SentenceTransformerEncoder, whole: bool) -> Pupil:
    """A pupil whose changes and heads are not nothing, as after some teaching."""
    torch.manual_seed(0)
    layers = copy.deepcopy(encoder.network.encoder.layer[LOWER:])
    pupil = Pupil(layers, encoder.dimension, 0.1, whole=whole)
    with torch.no_grad():
        for name, weight in pupil.named().items():
            weight += torch.randn_like(weight) * (0.02 if name.endswith(".b") else 0.05)
    return pupil.eval()


@pytest.mark.parametrize("whole", [False, True])
def test_saved_changes_read_as_the_pupil_does(
    encoder: SentenceTransformerEncoder, lessons: Path, tmp_path: Path, whole: bool
) -> None:
    pages, asked = material([lessons], encoder)
    untouched = encoder.network.encoder.layer
    pupil = changed(encoder, whole)
    file = tmp_path / "reader.safetensors"
    save_file(pupil.weights(), file)
    merged = upper_half(untouched, load_file(file))
    plain = dict(untouched[LOWER:].named_parameters())
    moved = {n for n, p in merged.named_parameters() if not torch.equal(p, plain[n])}
    assert moved == {n.removesuffix(".a") for n in pupil.weights()} & set(plain)
    question = states_of(asked[0].encoding)
    x, mask, _ = joined(
        [question] * 4,
        [states_of(page.encoding) for page in pages[:4]],
        [page.sentences for page in pages[:4]],
        dict(pupil.begin),
    )
    with torch.inference_mode():
        mine, theirs, unchanged = (
            run(layers, x, mask)[mask] for layers in (pupil.layers, merged, untouched[LOWER:])
        )
        found, _, _ = pupil([(asked[0], page) for page in pages[:4]])
    assert (mine - theirs).norm() < 0.05 * (mine - unchanged).norm()
    readings = Reader(untouched, file).read(
        asked[0].encoding, [p.encoding for p in pages[:4]], [p.sentences for p in pages[:4]]
    )
    for row, reading in zip(found.numpy(), readings, strict=True):
        np.testing.assert_allclose(reading.sentences, row, atol=0.02)


def test_rows_without_padding_are_what_the_layers_make_of_each_text(
    encoder: SentenceTransformerEncoder,
) -> None:
    layers = copy.deepcopy(encoder.network.encoder.layer[LOWER:]).float().eval()
    sizes = torch.tensor([7, 1, 40, 23])
    mask = torch.arange(40) < sizes[:, None]
    x = torch.randn(4, 40, encoder.dimension, generator=torch.manual_seed(0))
    with torch.inference_mode():
        found = run(layers, x, mask)
        for text, size, row in zip(x, sizes, found, strict=True):
            alone = text[None, :size]
            for layer in layers:
                alone = layer(alone)
            torch.testing.assert_close(row[:size], alone[0], atol=1e-4, rtol=1e-4)
            assert not row[size:].any()


def test_an_answer_is_the_tokens_and_sentences_that_hold_it(
    encoder: SentenceTransformerEncoder, tmp_path: Path
) -> None:
    text = "Die alte Brücke wurde 1741 gebaut. Sie stürzte 1802 ein. Im Ort leben 300 Menschen."
    (tmp_path / "bridge-de.de.txt").write_text(text, "utf-8")
    rows = [
        {"question": "When was the bridge built?", "answers": ["1741"]},
        {"question": "How many people live there?", "answers": ["300 Menschen"], "sentence": text},
        # Both sentences are right; what is marked is the first answer named.
        {"question": "Why is it new?", "answers": ["1802 ein", "Die alte Brücke wurde 1741"]},
        {"question": "Why is it gone?", "answers": ["Die alte Brücke", "1802 ein"]},
        {"question": "Who built it?", "answers": []},
        {"question": "What is the capital?", "answers": ["Paris"]},
    ]
    file = tmp_path / "bridge-de.questions.en.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (page,), asked = material([tmp_path], encoder)
    assert len(asked) == 5  # an answer that is not in the text teaches nothing
    found = []
    for question in asked[:4]:
        sentences, tokens = question.right[0]
        assert tokens is not None
        span = slice(page.encoding.offsets[tokens[0], 0], page.encoding.offsets[tokens[1], 1])
        found.append((sentences.tolist(), text[span].removesuffix(".")))
    both = [True, True, False]
    assert found[:2] == [([True, False, False], "1741"), ([False, False, True], "300 Menschen")]
    assert found[2:] == [(both, "1802 ein"), (both, "Die alte Brücke")]
    assert asked[4].right == {}


def test_each_question_is_read_with_a_page_that_answers_and_one_that_does_not(
    encoder: SentenceTransformerEncoder, lessons: Path
) -> None:
    pages, asked = material([lessons], encoder)
    stream = examples(pages, asked, Recipe(batch=4, both=1.0), random.Random(0))
    for _ in range(40):
        for question, (first, second) in next(stream):
            assert (first in question.right) == bool(question.right)
            assert second not in question.right
    # A single page: nothing else to read, for ever.
    one: list[Page] = [pages[0]]
    alone = [question for question in asked if question.text == 0]
    stream = examples(one, alone, Recipe(batch=4), random.Random(0))
    assert {pair for _ in range(9) for _, pair in next(stream)} == {(0, 0)}


def test_bad_input_is_one_line(
    lessons: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, said in (
        ([str(tmp_path), "--out", str(tmp_path / "r")], "no NAME"),
        ([str(lessons), "--out", str(tmp_path)], "is a folder"),
        ([str(lessons), "--out", str(tmp_path / "r"), "--encoder", str(lessons)], "the encoder"),
    ):
        with pytest.raises(SystemExit) as left:
            main(options)
        assert left.value.code == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1


def squad_file(folder: Path) -> Path:
    text = "Der Turm steht seit 1741. Er brannte 1802 ab. Der Turm ist 40 Meter hoch."
    asked = [
        ("a", "Wann brannte er ab?", "1802"),
        ("b", "Was geschah?", "1741. Er brannte"),  # goes over the end of a sentence
        ("c", "Wie hoch ist er?", "40 Meter"),
    ]
    qas: list[dict[str, object]] = [
        {
            "id": key,
            "question": f" {question} ",
            "answers": [{"text": answer, "answer_start": text.index(answer)}],
        }
        for key, question, answer in asked
    ]
    qas.append({"id": "d", "question": "Wer baute ihn?", "answers": [], "is_impossible": True})
    other = {"context": "Das Tor ist von 1802.", "qas": []}
    article = {"title": "Turm", "paragraphs": [{"context": text, "qas": qas}, other]}
    file = folder / "squad.json"
    file.write_text(json.dumps({"version": "2.0", "data": [article]}), "utf-8")
    return file


def test_lessons_of_a_squad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "lessons"
    arguments = ["squad", str(squad_file(tmp_path)), "--language", "de", "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    squad.main()
    ((document, rows),) = read_texts(out)
    assert document.language == "de"
    assert document.text.endswith("40 Meter hoch.\n\nDas Tor ist von 1802.")
    assert [(row["id"], row["question"], row["answers"]) for row in rows] == [
        ("a", "Wann brannte er ab?", ["1802"]),
        ("c", "Wie hoch ist er?", ["40 Meter"]),
        ("d", "Wer baute ihn?", []),
    ]
    sentences = ["Er brannte 1802 ab.", "Der Turm ist 40 Meter hoch.", "Das Tor ist von 1802."]
    assert [answering(row, sentences) for row in rows] == [
        [True, False, False],  # not the gate's year
        [False, True, False],
        [False, False, False],
    ]


@pytest.mark.parametrize("content", ["[]", "{", '{"data": [{"paragraphs": [{}]}]}', None])
def test_what_is_no_squad_file_is_said_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
) -> None:
    file = tmp_path / "squad.json"
    if content is not None:
        file.write_text(content, "utf-8")
    monkeypatch.setattr("sys.argv", ["squad", str(file), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        squad.main()
    assert ended.value.code == 2
    assert "squad.json" in capsys.readouterr().err
