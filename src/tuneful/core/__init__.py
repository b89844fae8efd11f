"""The nouns and contracts every room shares; imports nothing from any other room."""
