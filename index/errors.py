"""What can go wrong in words a user can act on. Each message is one line."""

from __future__ import annotations


class Words:
    """A text with gaps and what stands in them, so that it can be said in another language.

    ``template`` is in English, as for ``str.format``, and what other languages know the text
    by; without ``values`` it is the text itself. A value may be words in its turn.
    """

    def __init__(self, template: str, *values: object) -> None:
        self.template = template
        self.values = values

    def __str__(self) -> str:
        return self.template.format(*self.values) if self.values else self.template


class BelegError(Words, Exception):
    """The base of all errors that Beleg raises on purpose; its text is one clear line."""


class InputError(BelegError):
    """A path, a document or a question cannot be used."""


class DamageError(InputError):
    """What is on disk is not what was written there."""


class Unreadable(Words, Exception):
    """Why a file cannot be read: the rest of a sentence that starts with its name.

    Only the loaders see it: ``index.load`` makes an InputError of it.
    """


class ModelError(BelegError):
    """An encoder or a language model cannot be loaded or does not fit the index."""


class MismatchError(ModelError):
    """An index was made with another encoder, or with one that has changed."""
