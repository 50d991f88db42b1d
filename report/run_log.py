"""run.log: what happened when, with the tracebacks that the console spares the user."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def logged_to(path: Path) -> Iterator[logging.Logger]:
    """A logger that writes to `path`, as do warnings and the loggers of all packages from WARNING on."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    root, log = logging.getLogger(), logging.getLogger("jetbalance")
    root.addHandler(handler)
    log.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    try:
        yield log
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        handler.close()
