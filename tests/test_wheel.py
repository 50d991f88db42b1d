from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("processors", "corrections", "models", "report", "samples")
SOURCES = (*PACKAGES, "analysis.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing is left in the checkout."""
    copy, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*pip, "-w", target, copy], check=True)
    return next(target.glob("jetbalance-*.whl"))


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and takes the rest from this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    scripts = folder / "bin"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        scripts / "python",
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
    ]
    subprocess.run([*pip, wheel], check=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return scripts


def test_the_wheel_holds_every_module_and_what_they_read(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    data = ("*.py", "*.j2", "*.css", "*.onnx", "py.typed", "bundled/*")
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for pattern in data
        for path in (ROOT / package).rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - held == set()
    tops = {name.partition("/")[0] for name in held if ".dist-info" not in name}
    assert tops == {*PACKAGES, "analysis.py"}


def test_the_installed_program_runs_the_bundled_sample_from_another_folder(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "corrections").mkdir()
    words = ["-j", "2", "--maxchunks", "1", "--chunksize", "5000", "--replicas", "0", "report.formats=[png]"]
    # dask and parsl workers of earlier tests were told where this checkout is
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [elsewhere / "jetbalance", *words], cwd=tmp_path, capture_output=True, text=True, check=False, env=clean
    )
    assert (run.returncode, run.stderr[-500:]) == (0, run.stderr[-500:])
    facts = json.loads((tmp_path / "output" / "latest" / "run.json").read_text())
    assert facts["complete"]
    assert Path(facts["inputs"][0]["path"]).is_relative_to(elsewhere.parent)
