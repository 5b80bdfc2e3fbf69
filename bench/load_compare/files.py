"""The same model in every loader's format. Keys are thrown away with the folder."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import files_below

AGE = "age"
OPENSSL = "openssl"


@dataclass(frozen=True)
class Files:
    """Where everything lies: the model in ``plain``, and what each loader reads in its folder."""

    root: Path

    @property
    def plain(self) -> Path:
        """The model as it was written: safetensors files and a configuration."""
        return self.root / "plain"

    @property
    def sealed(self) -> Path:
        """Sealed by us."""
        return self.root / "sealed"

    @property
    def tensorizer(self) -> Path:
        """One file of tensorizer, in clear."""
        return self.root / "tensorizer" / "model.tensors"

    @property
    def tensorizer_encrypted(self) -> Path:
        """One file of tensorizer, encrypted."""
        return self.root / "tensorizer-encrypted" / "model.tensors"

    @property
    def cryptotensors(self) -> Path:
        """Files of cryptotensors, encrypted."""
        return self.root / "cryptotensors"

    def decrypted_by(self, program: str) -> Path:
        """Files that a program has encrypted, and its key."""
        return self.root / program

    def key(self, name: str) -> bytes:
        """A loader's key of 32 bytes, made when it is asked for first."""
        path = self.root / f"{name}.key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(32))
        return path.read_bytes()


def weights(folder: Path) -> list[Path]:
    """The safetensors files of a folder."""
    return [path for path in files_below(folder) if path.suffix == ".safetensors"]


def write_tensorizer(files: Files, *, encrypted: bool) -> None:
    """The whole state as one file of tensorizer."""
    from safetensors.torch import load_file  # noqa: PLC0415
    from tensorizer import EncryptionParams, TensorSerializer  # noqa: PLC0415

    path = files.tensorizer_encrypted if encrypted else files.tensorizer
    path.parent.mkdir()
    state = {name: t for each in weights(files.plain) for name, t in load_file(each).items()}
    encryption = EncryptionParams(key=files.key("tensorizer")) if encrypted else None
    serializer = TensorSerializer(str(path), encryption=encryption)
    serializer.write_state_dict(state)
    serializer.close()


def cryptotensors_keys(files: Files) -> dict[str, dict[str, str]]:
    """A content key and a signing key, as JSON Web Keys; made when they are asked for first."""
    path = files.root / "cryptotensors.jwk"
    if not path.exists():
        from base64 import b64encode  # noqa: PLC0415

        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PrivateKey,
        )

        def text(data: bytes) -> str:
            return b64encode(data).decode()

        signing = Ed25519PrivateKey.generate()
        path.touch(mode=0o600)
        keys = {
            "encryption": {
                "kty": "oct",
                "alg": "aes256gcm",
                "kid": "bench-enc",
                "k": text(secrets.token_bytes(32)),
            },
            "signing": {
                "kty": "okp",
                "alg": "ed25519",
                "kid": "bench-sign",
                "d": text(signing.private_bytes_raw()),
                "x": text(signing.public_key().public_bytes_raw()),
            },
        }
        path.write_text(json.dumps(keys))
    found: dict[str, dict[str, str]] = json.loads(path.read_bytes())
    return found


def write_cryptotensors(files: Files) -> None:
    """Each file on its own, as they lie there."""
    from cryptotensors.torch import save_file  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    files.cryptotensors.mkdir()
    keys = cryptotensors_keys(files)
    config = {"enc_key": keys["encryption"], "sign_key": keys["signing"]}
    for path in weights(files.plain):
        save_file(load_file(path), str(files.cryptotensors / path.name), config=config)


def age_identity(files: Files) -> Path:
    """Where age's key lies."""
    return files.decrypted_by(AGE) / "key.txt"


def write_age(files: Files) -> None:
    """Each file encrypted to one recipient."""
    files.decrypted_by(AGE).mkdir()
    _program("age-keygen", "-o", str(age_identity(files)))
    recipient = _program("age-keygen", "-y", str(age_identity(files))).strip()
    for path in weights(files.plain):
        out = files.decrypted_by(AGE) / f"{path.name}.age"
        _program(AGE, "-r", recipient, "-o", str(out), str(path))


def openssl_command(files: Files, source: Path, out: Path, *more: str) -> list[str]:
    """``openssl enc`` has no authenticated mode, so this one is not authenticated."""
    key = files.decrypted_by(OPENSSL) / "passphrase"
    return [
        *(OPENSSL, "enc", "-aes-256-ctr", "-pbkdf2", "-iter", "1", "-pass", f"file:{key}", *more),
        *("-in", str(source), "-out", str(out)),
    ]


def write_openssl(files: Files) -> None:
    """Each file encrypted under a passphrase."""
    folder = files.decrypted_by(OPENSSL)
    folder.mkdir()
    (folder / "passphrase").write_text(secrets.token_hex(32))
    for path in weights(files.plain):
        _program(*openssl_command(files, path, folder / f"{path.name}.enc"))


def shared_memory() -> Path:
    """A tmpfs, where decrypted files go."""
    return Path(os.environ.get("REGALIA_BENCH_TMPFS", "/dev/shm"))  # noqa: S108 - a benchmark's


def _program(*command: str) -> str:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout
