"""The page that `make bench-load` writes, from invented figures."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "load_compare"
SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{bench!r}]
from loaders import LOADERS, PLAIN, SEALED
from page import COPY, HASH, SEAL, Results, check_names, write_page

check_names()
def run(wall):
    return dict(wall=wall, cpu=wall, first=0.01, peak_kib=1000.0)

runs = {{name: [run(1.0), run({second}), run(1.0)] for name in LOADERS}}
runs[SEALED] = [run(0.4), run({second} * 0.4), run(0.44)]
del runs["tensorizer, encrypted"]
absent = {{"tensorizer, encrypted": "no libsodium"}}
sealing = {{COPY: [run(1.0)] * 3, SEAL: [run(1.1)] * 3, HASH: [run(0.9)] * 3}}
write_page(Results(2_000_000_000, runs, absent, sealing, (0.5, 0.6)), Path(sys.argv[1]))
"""


def written(folder: Path, second: float) -> tuple[str, ET.Element]:
    page = folder / "benchmarks" / "loading.md"
    code = SCRIPT.format(bench=str(BENCH), second=second)
    done = subprocess.run(
        [sys.executable, "-c", code, str(page)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    image = page.with_suffix(".svg").read_text(encoding="utf-8")
    return page.read_text(encoding="utf-8"), ET.fromstring(image)  # noqa: S314 - our own


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    page, image = written(tmp_path, 1.2)
    assert "| regalia sealed | yes | 0.440 | 4.55 | 0.40 (0.40 to 0.44) |" in page
    assert "| tensorizer, encrypted | weights only | not run: no libsodium |" in page
    assert "| fresh memory: sealed / load_file + clone | ≤ 0.45 | 0.40 | met | 1.00 |" in page
    assert "| tensorizer encrypted / sealed | ≥ 2.50 | not run | | |" in page
    assert "| cryptotensors / sealed | ≥ 1.50 | 2.50 | met | 1.00 |" in page
    assert "| faulted in: whole stream / plain preadv | ≤ 1.00 | 1.00 | met | 2.00 |" in page
    assert "| seal / cp | ≤ 1.20 | 1.10 | met | 0.90 |" in page
    assert "![Bars of GB/s](loading.svg)" in page
    assert "Noisy" not in page
    texts = [each.text or "" for each in image.iter() if each.tag.endswith("text")]
    assert "regalia sealed" in texts
    assert not any("tensorizer, encrypted" in text for text in texts)


@pytest.mark.parametrize(("second", "noisy"), [(1.9, False), (2.1, True)])
def test_figures_of_a_noisy_machine_say_so(tmp_path: Path, second: float, *, noisy: bool) -> None:
    page, _ = written(tmp_path, second)
    assert ("**Noisy:**" in page) is noisy
