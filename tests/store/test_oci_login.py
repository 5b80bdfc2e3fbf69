"""Credentials for registries: whose they are, where they come from, and that nobody sees them."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import CoreCode, KeyAccessError, LocalError, RegaliaError, UsageError
from regalia.store.names import StoreCode
from regalia.store.oci_login import Login, config_files, find_login

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-of-tests"
AUTH = base64.b64encode(f"ann:{SECRET}".encode()).decode()


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "config.json"


def write(config: Path, **members: object) -> None:
    config.write_text(json.dumps(members))


def helper(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """A program docker-credential-tests."""
    program = folder / "docker-credential-tests"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize("key", ["r.example", "https://r.example", "https://r.example/v2/"])
def test_an_entry(key: str, config: Path) -> None:
    write(config, auths={key: {"auth": AUTH}, "other.example": {"auth": "bm9ib2R5Og=="}})
    assert find_login("r.example", "a/b", helpers=False) == Login("ann", SECRET)
    assert find_login("r.example:5000", "a/b", helpers=False) is None
    assert find_login("example", "a/b", helpers=False) is None


def test_the_most_particular_entry_counts(config: Path) -> None:
    mine = base64.b64encode(b"bea:other").decode()
    write(config, auths={"r.example": {"auth": AUTH}, "r.example/a": {"auth": mine}})
    assert find_login("r.example", "a/b", helpers=False) == Login("bea", "other")
    assert find_login("r.example", "ab", helpers=False) == Login("ann", SECRET)


def test_docker_hub_by_its_other_name(config: Path) -> None:
    write(config, auths={"https://index.docker.io/v1/": {"auth": AUTH}})
    for host in ("registry-1.docker.io", "index.docker.io", "docker.io"):
        assert find_login(host, "a", helpers=False) == Login("ann", SECRET)
    assert find_login("docker.io.example", "a", helpers=False) is None
    write(config, auths={"registry-1.docker.io": {"auth": AUTH}})
    assert find_login("registry-1.docker.io", "a", helpers=False) == Login("ann", SECRET)


def test_identity_tokens(config: Path) -> None:
    write(config, auths={"r.example": {"auth": AUTH, "identitytoken": SECRET}})
    assert find_login("r.example", "a", helpers=False) == Login(identity_token=SECRET)


def test_no_file(config: Path) -> None:
    assert not config.exists()
    assert find_login("r.example", "a", helpers=False) is None


def test_the_files_of_podman(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run/containers").mkdir(parents=True)
    write(tmp_path / "run/containers/auth.json", auths={"r.example": {"auth": AUTH}})
    assert find_login("r.example", "a", helpers=False) == Login("ann", SECRET)
    write(config, auths={"r.example": {"username": "cy", "password": "first"}})
    assert find_login("r.example", "a", helpers=False) == Login("cy", "first")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "absent"))
    assert config_files() == [tmp_path / "absent"]
    assert find_login("r.example", "a", helpers=False) is None


@pytest.mark.parametrize(
    "text",
    [
        f'{{"auths": {{"r.example": {{"auth": "{SECRET}"}}',
        json.dumps({"auths": {"r.example": {"auth": f"%{SECRET}"}}}),
        json.dumps({"auths": {"r.example": {"auth": base64.b64encode(SECRET.encode()).decode()}}}),
        json.dumps({"auths": {"r.example": SECRET}}),
    ],
)
def test_malformed_files_do_not_show_what_they_hold(text: str, config: Path) -> None:
    config.write_text(text)
    with pytest.raises(UsageError) as caught:
        find_login("r.example", "a", helpers=False)
    assert caught.value.code is CoreCode.BAD_CONFIG
    assert SECRET not in str(caught.value)


def test_a_representation_holds_no_secret() -> None:
    assert SECRET not in repr(Login("ann", SECRET, SECRET))


@pytest.mark.parametrize(
    "named", [{"credHelpers": {"r.example": "tests"}}, {"credsStore": "tests"}]
)
def test_a_program_that_knows(
    named: dict[str, object], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = json.dumps({"ServerURL": "r.example", "Username": "ann", "Secret": SECRET})
    helper(
        monkeypatch, tmp_path, f"read host; echo \"$1 $host\" > {tmp_path}/asked; echo '{answer}'"
    )
    write(config, auths={"r.example": {}}, **named)
    assert find_login("r.example", "a", helpers=True) == Login("ann", SECRET)
    assert (tmp_path / "asked").read_text() == "get r.example\n"


def test_a_program_that_knows_an_identity_token(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = json.dumps({"Username": "<token>", "Secret": SECRET})
    helper(monkeypatch, tmp_path, f"echo '{answer}'")
    write(config, credHelpers={"r.example": "tests"})
    assert find_login("r.example", "a", helpers=True) == Login(identity_token=SECRET)


def test_a_file_that_cannot_be_read(config: Path) -> None:
    config.mkdir()
    with pytest.raises(LocalError):
        find_login("r.example", "a", helpers=False)


def test_a_program_is_not_run_inside_a_tee(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(monkeypatch, tmp_path, f"touch {tmp_path}/ran")
    write(config, credHelpers={"r.example": "tests"})
    with pytest.raises(UsageError) as caught:
        find_login("r.example", "a", helpers=False)
    assert caught.value.code is StoreCode.CREDENTIAL_HELPER_REFUSED
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "echo nothing",
        f"echo {SECRET} >&2; exit 2",
        "echo '{}'",
        "yes secret",
        "head -c 70000 /dev/zero",
        f"""echo '{{"Username": "ann", "Secret": "{SECRET}"}}'; exit 3""",
        "head -c 60000 /dev/zero | tr '\\0' '['",
    ],
)
def test_a_program_that_fails(
    script: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(monkeypatch, tmp_path, script)
    write(config, credHelpers={"r.example": "tests"})
    with pytest.raises(KeyAccessError) as caught:
        find_login("r.example", "a", helpers=True)
    assert caught.value.code is StoreCode.CREDENTIAL_HELPER_FAILED
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & echo '{}'", "setsid sleep 20 &"])
def test_a_program_that_does_not_end(
    script: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regalia.store.oci_login._HELPER_S", 0.3)
    helper(monkeypatch, tmp_path, script)
    write(config, credHelpers={"r.example": "tests"})
    began = time.monotonic()
    with pytest.raises(KeyAccessError) as caught:
        find_login("r.example", "a", helpers=True)
    assert caught.value.code is StoreCode.CREDENTIAL_HELPER_FAILED
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "", "a/b"])
def test_a_program_with_another_name(name: str, config: Path) -> None:
    write(config, credHelpers={"r.example": name})
    if not name:
        assert find_login("r.example", "a", helpers=True) is None
        return
    with pytest.raises(RegaliaError) as caught:
        find_login("r.example", "a", helpers=True)
    assert caught.value.code is CoreCode.BAD_CONFIG
