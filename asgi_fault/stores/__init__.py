"""State that decides what a request sees: what must change in one step stands here."""
