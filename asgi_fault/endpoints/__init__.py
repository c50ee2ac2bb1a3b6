"""One file a surface: what the server answers when nothing goes wrong on purpose. Endpoints do not know each other."""
