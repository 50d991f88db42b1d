"""What a mistake of the user and an unreadable file look like.

`InputError` is for what a user can put right and is found before work begins; `UnreadableEventsError` is for a file
that fails while its events are read. Everything else that is raised is a defect of this package or of its dependencies.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """A usage, configuration or input mistake: what was expected, what came, where, what to do; one line each.

    Attributes
    ----------
    faults
        One line per mistake. The message is these lines joined.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        """Every fault on a line of its own."""
        return "\n".join(self.faults)


class UnreadableEventsError(OSError):
    """Events of a file that opened cannot be read: damaged baskets, a truncated file, a lost connection.

    Raised for the file of events only, never for a correction or a model, so that a run may go on without the chunk.
    """


def suggestion(name: str, known: Iterable[str], *, label: str = "did you mean") -> str:
    """`"; did you mean 'x'?"` for the known names nearest to `name`, or an empty string."""
    near = nearest(name, known)
    return f"; {label} {' or '.join(repr(other) for other in near)}?" if near else ""


def nearest(name: str, known: Iterable[str], count: int = 3) -> Sequence[str]:
    """At most `count` known names that look like `name`, best first; only the one that differs in case, if there is."""
    by_lower = {other.lower(): other for other in known}
    if name.lower() in by_lower:
        return [by_lower[name.lower()]]
    return [by_lower[match] for match in get_close_matches(name.lower(), by_lower, n=count, cutoff=0.6)]


def raise_if_any(faults: Sequence[str]) -> None:
    """Raise one `InputError` that lists all faults, if there are any."""
    if faults:
        raise InputError(*faults)
