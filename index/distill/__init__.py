"""Teach an English sentence encoder another language (``python -m index.distill``).

The student starts as a copy of the teacher. Its vocabulary grows by word pieces of the
new language, whose vectors start as the mean of the teacher's vectors of the English
pieces they are translated by (IBM Model 1: Brown et al. 1993, "The Mathematics of
Statistical Machine Translation"). It then learns to give a foreign text the vector that
the teacher gives its English translation (Reimers & Gurevych 2020, "Making Monolingual
Sentence Embeddings Multilingual using Knowledge Distillation"), and to rank a bank of
other texts as the teacher does.

Where there are texts with questions (``--lessons``), it also learns which of their sentences
answer (index.distill.lessons).

The bundled model was made about so (its card has the details):

    python -m index.distill sentences.de-en.tsv.gz --dictionary /usr/share/trans/de-en
        --documents news --teacher FOLDER_OF_all-MiniLM-L6-v2 --minutes 85 --out first
    python -m index.distill ... --resume first --rate 0.4 --minutes 62
        --lessons tests/benchmarks/questions/train --out index/model

and, with its own pairs, the same command teaches the bundled model another language. It
never sees an evaluation set.
"""
