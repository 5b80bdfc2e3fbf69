"""A TPM 2.0 in software (swtpm on libtpms), with an EK certificate of its own authority.

Everything but the hardware is real: the commands, the certificates, the quotes. It listens on
Unix sockets in its own folder, and only the process that was started here is ever stopped.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

if TYPE_CHECKING:
    from types import TracebackType

PROGRAMS = ("swtpm", "swtpm_setup", "swtpm_localca")
START_S = 10
STOP_S = 10
_POLL_S = 0.01

_LOCALCA = """\
statedir = {folder}
signingkey = {folder}/signkey.pem
issuercert = {folder}/issuercert.pem
certserial = {folder}/certserial
"""
_SETUP = """\
create_certs_tool = {localca}
create_certs_tool_config = {folder}/swtpm-localca.conf
create_certs_tool_options = {folder}/swtpm-localca.options
active_pcr_banks = sha256,sha384
"""
_OPTIONS = """\
--platform-manufacturer Regalia
--platform-version 1
--platform-model test
"""


def missing_programs() -> tuple[str, ...]:
    """Programs that a software TPM needs and that are not installed."""
    return tuple(name for name in PROGRAMS if shutil.which(name) is None)


@dataclass(frozen=True, slots=True)
class TpmMaker:
    """Makes software TPMs, and is the authority that certifies their EKs."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Write the tools' configuration; the authority's keys come with the first TPM."""
        folder.mkdir(parents=True)
        localca = shutil.which("swtpm_localca") or "swtpm_localca"
        (folder / "swtpm-localca.conf").write_text(_LOCALCA.format(folder=folder))
        (folder / "swtpm-localca.options").write_text(_OPTIONS)
        (folder / "swtpm_setup.conf").write_text(_SETUP.format(folder=folder, localca=localca))
        return cls(folder)

    @property
    def root(self) -> bytes:
        """The root's certificate, DER."""
        return _der(self.folder / "swtpm-localca-rootca-cert.pem")

    @property
    def intermediate(self) -> bytes:
        """The certificate of the authority that signs EK certificates, DER."""
        return _der(self.folder / "issuercert.pem")

    def make(self) -> SoftwareTpm:
        """A new TPM, switched off, with an RSA-2048 and a P-384 EK."""
        # Paths of sockets have 107 bytes at most, which folders of test runs exceed.
        state = Path(tempfile.mkdtemp(prefix="swtpm-"))
        command = ["swtpm_setup", "--tpm2", "--tpmstate", str(state)]
        command += ["--config", str(self.folder / "swtpm_setup.conf")]
        command += ["--create-ek-cert", "--lock-nvram", "--ecc", "--overwrite"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise RuntimeError(f"swtpm_setup: {done.stdout}{done.stderr}")
        return SoftwareTpm(state)


class SoftwareTpm:
    """One TPM: ``start``, ``stop`` and ``reboot``. As a context manager it is on inside."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def tcti(self) -> str:
        """For the TSS."""
        return f"swtpm:path={self._socket}"

    @property
    def _socket(self) -> Path:
        return self._state / "sock"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.destroy()

    def start(self) -> None:
        """Switch it on: TPM Reset, as at a machine's start."""
        control = self._socket.with_name("sock.ctrl")
        for stale in (self._socket, control):
            stale.unlink(missing_ok=True)
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._state}"]
        command += ["--server", f"type=unixio,path={self._socket}"]
        command += ["--ctrl", f"type=unixio,path={control}"]
        command += ["--flags", "not-need-init,startup-clear"]
        self._process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while not (_listens(self._socket) and _listens(control)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("swtpm did not start")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Switch it off. What it holds in NV stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_S)
            self._process = None

    def reboot(self) -> None:
        """Off and on: registers are zero again, and resetCount has grown."""
        self.stop()
        self.start()

    def destroy(self) -> None:
        """Off, and its state removed."""
        self.stop()
        shutil.rmtree(self._state, ignore_errors=True)


def _listens(path: Path) -> bool:
    """Whether somebody takes connections there. The file alone says only that it is bound."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
