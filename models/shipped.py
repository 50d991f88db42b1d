"""Networks that come with the package, by name: `calibration.onnx=calibration_deepsets`."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def shipped_names() -> tuple[str, ...]:
    """Names of all of them, in order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.onnx")))


def shipped_path(name: str) -> Path | None:
    """The ONNX file of that name, with its card beside it; None where no network of that name ships."""
    return FOLDER / f"{name}.onnx" if name in shipped_names() else None
