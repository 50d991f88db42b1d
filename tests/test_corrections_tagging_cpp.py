"""The corrections of taggers in C++, as most programs of experiments evaluate them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import correctionlib
import pytest
from test_processors_tagger_weights import CUTS, MAPS, MISTAGS, POINTS

from corrections.tagging.tagger_json import write_tagger_json

PROGRAM = """
#include <iostream>
#include "correction.h"
int main(int n, char** words) {
  auto corrections = correction::CorrectionSet::from_file(words[1]);
  auto factor = corrections->at("toy_w");
  for (double pt : {50., 250., 400., 5000.}) std::cout << factor->evaluate({-1.5, pt, "jes_up", "tight"}) << "\\n";
}
"""

pytestmark = pytest.mark.slow


def test_cpp_gives_the_numbers_of_python(tmp_path: Path) -> None:
    base = Path(correctionlib.__file__).parent
    compiler = shutil.which("g++")
    if compiler is None or not (base / "include" / "correction.h").is_file():
        pytest.skip("no C++ compiler, or correctionlib came without its headers")
    path, source, program = tmp_path / "sf.json.gz", tmp_path / "program.cc", tmp_path / "program"
    write_tagger_json([*POINTS, *MISTAGS], MAPS, CUTS, path)
    source.write_text(PROGRAM)
    places = [f"-I{base / 'include'}", f"-L{base / 'lib'}", f"-Wl,-rpath,{base / 'lib'}"]
    subprocess.run([compiler, "-std=c++17", source, *places, "-lcorrectionlib", "-o", program], check=True)

    printed = subprocess.run([program, path], check=True, capture_output=True, text=True).stdout

    factors = correctionlib.CorrectionSet.from_file(str(path))["toy_w"]
    expected = [factors.evaluate(-1.5, pt, "jes_up", "tight") for pt in (50.0, 250.0, 400.0, 5000.0)]
    assert [float(line) for line in printed.split()] == pytest.approx(expected, rel=1e-5)
