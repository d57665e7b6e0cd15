"""From a question to a checked answer."""

from rag.answer import Answer, Citation
from rag.chatbot import Chatbot

# Not on demand: importing the module would put it in the function's place.
from rag.evaluate import evaluate
from rag.report import Report

__all__ = ["Answer", "Chatbot", "Citation", "Report", "evaluate"]
