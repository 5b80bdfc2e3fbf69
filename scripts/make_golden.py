"""Write the golden files: python scripts/make_golden.py [PART...], and read what git diff shows.

Parts: commands, policies, simulated, vectors; all of them by default. ``vectors`` needs the folder
of real evidence: REGALIA_VECTORS, or ``shared/vectors`` beside the project. ``simulated`` is made
of random keys: what follows from them is replaced, so a second run writes the same bytes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The modules that make the files lie beside the test that compares them.
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.golden import produce

SHARED = Path(__file__).parents[2] / "shared" / "vectors"


def main(parts: list[str]) -> int:
    """Write the parts that are named."""
    evidence = Path(os.environ.get("REGALIA_VECTORS", SHARED))
    for part in parts or produce.PARTS:
        if part == "vectors" and not (evidence / "README.md").exists():
            print(f"vectors: left out, {evidence} holds no evidence; set REGALIA_VECTORS")
            continue
        folder = produce.FOLDER / part
        folder.mkdir(parents=True, exist_ok=True)
        files = produce.made(part, evidence)
        for path in folder.glob("*.txt"):
            if path.name not in files:
                path.unlink()
        for name, text in files.items():
            (folder / name).write_bytes(text.encode())
        print(f"{part}: {len(files)} files, {sum(len(text) for text in files.values())} characters")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
