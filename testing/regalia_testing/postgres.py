"""A real PostgreSQL server for tests, on a socket in a folder of its own and on no port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACES = Path("/usr/lib/postgresql")  # where Debian keeps the programs of each version
_PATIENCE_S = 180  # after a crash a server reads its log, and syncs every file
_USER = "postgres"  # the server does not run as root


@dataclass
class PostgresServer:
    """A running server.

    Attributes:
        programs: folder of initdb, pg_ctl and others.
        folder: of the socket and the data.
    """

    programs: Path
    folder: Path
    _made: int = field(default=0, init=False)

    def new_database(self) -> str:
        """Make an empty database, and return its URL for SQLAlchemy."""
        self._made += 1
        name = f"regalia{self._made}"
        _run(self.programs / "createdb", "-h", self.folder, "-U", _USER, name)
        return f"postgresql+psycopg://{_USER}@/{name}?host={self.folder}"

    def stop(self, mode: str = "fast") -> None:
        """Stop the server.

        Args:
            mode: ``fast`` ends connections, ``immediate`` is a crash.
        """
        _run(self.programs / "pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")

    def start(self) -> None:
        """Start the server, also after a crash."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        log = self.folder / "log"
        _run(
            self.programs / "pg_ctl", "-D", self.folder / "data", "-l", log, "-w",
            "-t", _PATIENCE_S, "-o", options, "start",
        )  # fmt: skip


def find_programs() -> Path | None:
    """Folder of the server's programs, or None if it is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(_PLACES.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def postgres_server(programs: Path) -> Iterator[PostgresServer]:
    """Make an empty server and run it.

    Args:
        programs: as ``find_programs`` returned it.
    """
    # Paths of sockets have 107 bytes at most, so not in a folder of pytest's.
    folder = Path(tempfile.mkdtemp(prefix="regalia-pg-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam(_USER)
        os.chown(folder, account.pw_uid, account.pw_gid)
    server = PostgresServer(programs, folder)
    try:
        _run(programs / "initdb", "-D", folder / "data", "-U", _USER, "-A", "trust", "-N")
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: Path, *args: object) -> None:
    command = [str(program), *map(str, args)]
    if os.geteuid() == 0:
        command = ["runuser", "-u", _USER, "--", *command]
    # Output to a file and not to a pipe, which the server would inherit and keep open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(  # noqa: S603 - programs of the server
            command, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=_PATIENCE_S
        )
        if done.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{program.name}: {output.read().decode(errors='replace')[-2000:]}")
