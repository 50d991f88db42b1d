"""Mistakes of the user, said in one line."""


class SampleError(ValueError):
    """A sample cannot be generated as asked; the message says what was asked, what is possible and what to do."""
