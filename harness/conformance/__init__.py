"""Public packages held to the properties: which subjects, what came of them, and what was expected of that."""
