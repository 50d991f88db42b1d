"""What a mistake of the user looks like: tables that lack something, folders with something else in them."""

from __future__ import annotations


class RefusedError(ValueError):
    """A mistake of the user: what was expected, what came, what to do, in one line."""
