"""From documents to passages found."""
