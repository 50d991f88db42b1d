from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("processors", "corrections", "models", "report", "samples")
HEAVY = ("numpy", "numba", "awkward", "coffea", "hist", "scipy", "matplotlib", "correctionlib", "pydantic", "rich")


def modules_after(statement: str) -> set[str]:
    command = [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_analysis_imports_nothing_heavy() -> None:
    assert modules_after("import analysis").isdisjoint(HEAVY)


def test_no_module_imports_tensorflow_or_what_loads_it() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" and "training" not in path.parts
    ]
    statement = "\n".join(f"import {name}" for name in ("analysis", *names))
    assert modules_after(statement).isdisjoint({"tensorflow", "keras", "torch", "coffea.ml_tools"})


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_its_modules(package: str) -> None:
    text = (ROOT / package / "__init__.py").read_text()

    names = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    assert {name for name in names if not re.search(rf"^{name} |`{name}`", text, re.MULTILINE)} == set()


def test_a_folder_of_the_user_named_models_does_not_take_our_place(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "corrections").mkdir()
    command = [sys.executable, "-m", "analysis", "--version"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout[:11]) == (0, "jetbalance ")


def test_a_foreign_package_of_our_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    command = [sys.executable, "-m", "analysis", "doctor"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert str(tmp_path / "models") in result.stderr
    assert "PYTHONSAFEPATH=1" in result.stderr


def test_help_takes_less_than_half_a_second_of_a_core() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    for _ in range(3):
        subprocess.run([sys.executable, ROOT / "analysis.py", "--help"], check=True, capture_output=True)
    assert (resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before) / 3 < 0.5
