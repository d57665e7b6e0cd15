"""From a question to a checked answer."""

from rag.answer import Answer, Citation
from rag.chatbot import Chatbot

__all__ = ["Answer", "Chatbot", "Citation"]
