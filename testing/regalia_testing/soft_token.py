"""Tokens of SoftHSM 2 for tests: a real PKCS#11 library whose tokens are files.

SoftHSM reads one configuration in a process, so all tokens of a process lie in one folder and have
labels of their own.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LIBRARY = "/usr/lib/softhsm/libsofthsm2.so"
PIN = b"a PIN that memory holds by chance never"
SO_PIN = b"12345678"


@cache
def _folder() -> Path:
    """Where this process has its tokens. Its children find them through the environment."""
    folder = Path(tempfile.mkdtemp(prefix="regalia-tokens-"))
    (folder / "tokens").mkdir()
    config = folder / "softhsm2.conf"
    config.write_text(
        f"directories.tokendir = {folder / 'tokens'}\n"
        "objectstore.backend = file\nlog.level = ERROR\nslots.mechanisms = ALL\n"
        "library.reset_on_fork = false\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(config)
    return folder


@dataclass(frozen=True)
class SoftToken:
    """One token, and where its files are."""

    label: str
    files: Path

    @classmethod
    def make(cls, label: str) -> SoftToken:
        """Set up an empty token, as an operator does.

        Args:
            label: one that no other token of this process has.
        """
        tokens = _folder() / "tokens"
        before = set(tokens.iterdir())
        pins = ["--so-pin", SO_PIN.decode(), "--pin", PIN.decode()]
        subprocess.run(  # noqa: S603 - our own command
            ["/usr/bin/softhsm2-util", "--init-token", "--free", "--label", label, *pins],
            check=True,
            capture_output=True,
        )
        (files,) = set(tokens.iterdir()) - before
        return cls(label, files)

    @property
    def location(self) -> str:
        """What stands between ``pkcs11:`` and ``#NAME``."""
        return f"token={self.label}?module-path={LIBRARY}"

    def remove(self) -> Path:
        """Pull the token out. Returns where its files are now; ``put_back`` brings them back."""
        away = self.files.parent.parent / f"away-{self.label}"
        return self.files.rename(away)

    def put_back(self, away: Path) -> None:
        """Connect the token again."""
        away.rename(self.files)
