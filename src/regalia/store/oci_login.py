"""Credentials for registries, from the files that Docker and Podman keep.

They hold user names and passwords, or name programs that know them. Such a program is only run on
an owner's machine: inside a TEE, whoever may write the file could run a command there.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from regalia.core.errors import CoreCode, KeyAccessError, LocalError, UsageError
from regalia.host.localfs import read_file
from regalia.host.programs import output_of
from regalia.store.names import StoreCode

_CONFIG_MAX = 1 << 20
_ANSWER_MAX = 1 << 16
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HELPER_S = 30.0
# Docker Hub is known by another name in these files than the one that serves its registry.
_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105 - what helpers call a user who has an identity token


@dataclass(frozen=True, slots=True)
class Login:
    """What one registry knows somebody by; the secrets are in no representation."""

    user: str = field(repr=False, default="")
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")

    def basic(self) -> str:
        """The value of a header Authorization."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class _Auth(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    auths: dict[str, _Auth] = {}
    cred_helpers: dict[str, str] = {}
    creds_store: str = ""


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str
    secret: str


def find_login(host: str, repository: str, *, helpers: bool) -> Login | None:
    """What the usual files know about a registry; None if they know nothing.

    Args:
        host: of the registry, with its port.
        repository: in it; a file may have credentials for a part of a registry only.
        helpers: whether a program that a file names may be run.

    Raises:
        UsageError: BAD_CONFIG, a file is malformed; CREDENTIAL_HELPER_REFUSED.
        KeyAccessError: CREDENTIAL_HELPER_FAILED.
        LocalError: a file cannot be read.
    """
    for path in config_files():
        config = _read(path)
        if config is None:
            continue
        for key in _keys(host, repository):
            helper = config.cred_helpers.get(key)
            entry = config.auths.get(key)
            helper = helper or (config.creds_store if entry is not None else None)
            if helper:
                return _ask_helper(helper, key, path, helpers=helpers)
            login = _login(entry, path) if entry is not None else None
            if login is not None:
                return login
    return None


def config_files() -> list[Path]:
    """The files that are looked into, in this order."""
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        return [Path(named)]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    docker = os.environ.get("DOCKER_CONFIG")
    files = [Path(docker)] if docker else [Path.home() / ".docker"]
    files = [folder / "config.json" for folder in files]
    return [*files, Path(runtime) / "containers/auth.json"] if runtime else files


def _keys(host: str, repository: str) -> list[str]:
    """How such files may call a registry, the most particular names first."""
    parts = repository.split("/")
    keys = [f"{host}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1)]
    keys += [
        host,
        f"https://{host}",
        f"https://{host}/",
        f"https://{host}/v1/",
        f"https://{host}/v2/",
    ]
    return [*keys, _HUB_KEY] if host in _HUB else keys


def _read(path: Path) -> _Config | None:
    try:
        data = read_file(path, limit=_CONFIG_MAX)
    except LocalError as exc:
        if exc.code in {CoreCode.FILE_MISSING, CoreCode.NOT_A_DIRECTORY}:
            return None
        raise
    try:
        return msgspec.json.decode(data, type=_Config)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # The decoder's words could quote a secret.
        raise UsageError(CoreCode.BAD_CONFIG, f"{path} is no configuration of Docker") from None


def _login(entry: _Auth, path: Path) -> Login | None:
    if entry.identitytoken:
        return Login(identity_token=entry.identitytoken)
    if entry.auth:
        try:
            text = binascii.a2b_base64(entry.auth.strip()).decode()
        except ValueError:
            raise UsageError(CoreCode.BAD_CONFIG, f"{path}: an auth that is no base64") from None
        user, colon, password = text.partition(":")
        if not colon:
            raise UsageError(CoreCode.BAD_CONFIG, f"{path}: an auth without a colon") from None
        return Login(user, password.rstrip("\0"))
    return Login(entry.username, entry.password) if entry.username else None


def _ask_helper(name: str, key: str, path: Path, *, helpers: bool) -> Login:
    """Run ``docker-credential-NAME get``, which reads the registry's name from its input."""
    if not helpers:
        raise UsageError(
            StoreCode.CREDENTIAL_HELPER_REFUSED,
            f"{path} names the program docker-credential-{name[:64]}",
        )
    if not _HELPER.fullmatch(name):
        raise UsageError(CoreCode.BAD_CONFIG, f"{path}: no name of a credential helper")
    program = f"docker-credential-{name}"
    try:
        data = output_of([program, "get"], key.encode(), limit=_ANSWER_MAX, seconds=_HELPER_S)
    except OSError as exc:
        raise _helper_failed(program, key, type(exc).__name__) from None
    if data is None:
        what = f"no answer of at most {_ANSWER_MAX} bytes in {_HELPER_S:.0f} s"
        raise _helper_failed(program, key, what)
    try:
        answer = msgspec.json.decode(data, type=_Answer)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        # The type only: the decoder's words could quote a secret.
        raise _helper_failed(program, key, type(exc).__name__) from None
    if answer.username == _TOKEN_USER:
        return Login(identity_token=answer.secret)
    return Login(answer.username, answer.secret)


def _helper_failed(program: str, key: str, why: str) -> KeyAccessError:
    return KeyAccessError(StoreCode.CREDENTIAL_HELPER_FAILED, f"{program} get, for {key}: {why}")
