"""Two pushes of different versions under one name of a registry, which compares nothing."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import UnavailableError
from regalia.core.types import Digest
from regalia.store.image import Image, Label
from regalia.store.names import StoreCode
from regalia.store.oci import SETTLE_S, OciRepository
from regalia.store.oci_address import OciAddress
from tests.store import registry as real
from tests.store.registry_double import RegistryDouble, image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regalia.core.errors import Code


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture
def registry() -> RegistryDouble:
    double = RegistryDouble.with_model()
    del double.images["v1"]
    return double


def version(label: str) -> bytes:
    return Image(image().blobs, Label(label)).encode()


MINE, THEIRS = version("mine"), version("theirs")


def before_the_write(registry: RegistryDouble, action: Callable[[], None]) -> None:
    """Somebody does something between this push's look and its writing."""

    def act(request: httpx.Request) -> None:
        if request.method == "PUT":
            action()

    registry.instead["manifests/v1"] = [act]


def publish(registry: RegistryDouble, *, replace: bool = False) -> Code | None:
    try:
        registry.repository().publish("v1", MINE, replace=replace)
    except UnavailableError as exc:
        return exc.code
    return None


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("after", [THEIRS, None])
def test_a_name_that_is_lost_at_once(
    after: bytes | None,
    replace: bool,  # noqa: FBT001 - a parameter of the test
    registry: RegistryDouble,
) -> None:
    reads = itertools.count()

    def other(request: httpx.Request) -> None:
        if request.method == "GET" and next(reads) == 1:  # the look behind the writing
            registry.images.pop("v1")
            registry.images |= {} if after is None else {"v1": after}

    registry.instead["manifests/v1"] = [other]
    assert publish(registry, replace=replace) is StoreCode.VERSION_EXISTS
    assert registry.pauses == [SETTLE_S]


def test_a_name_that_is_kept(registry: RegistryDouble) -> None:
    before_the_write(registry, lambda: registry.images.update(v1=THEIRS))
    assert publish(registry) is None  # and the other one is told, by the look above
    assert registry.images["v1"] == MINE


def test_the_name_is_looked_at_again_before_a_second_attempt(registry: RegistryDouble) -> None:
    failures = [httpx.Response(503)]

    def fail(request: httpx.Request) -> httpx.Response | None:
        if request.method != "PUT" or not failures:
            return None
        registry.images["v1"] = THEIRS
        return failures.pop()

    registry.instead["manifests/v1"] = [fail]
    assert publish(registry) is StoreCode.VERSION_EXISTS
    assert registry.images["v1"] == THEIRS


def test_an_answer_that_is_lost(registry: RegistryDouble) -> None:
    def lose(request: httpx.Request) -> None:
        if request.method == "PUT" and registry.images.get("v1") != MINE:
            registry.honest(request)
            raise httpx.ReadError("cut")

    registry.instead["manifests/v1"] = [lose]
    assert publish(registry) is None
    assert [request.method for request in registry.requests].count("PUT") == 2  # with the config


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real.Registry]:
    with real.running(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.mark.parametrize("number", range(5))
def test_two_at_once_in_a_real_registry(number: int, docker: real.Registry) -> None:
    """One has the name; at most that one is told that it has it."""
    address = OciAddress(docker.host, f"acme/two{number}")
    barrier = threading.Barrier(2)

    def one(label: str) -> Digest | Code:
        document = Image((), Label(label)).encode()
        with OciRepository(address, write=True, helpers=False) as repository:
            barrier.wait(10)
            try:
                repository.publish("v1", document, replace=False)
            except UnavailableError as exc:
                return exc.code
            return Digest.of(document)

    with ThreadPoolExecutor(2) as pool:
        told = set(pool.map(one, ["a", "b"]))
    with OciRepository(address, write=False, helpers=False) as repository:
        assert told == {repository.resolve("v1"), StoreCode.VERSION_EXISTS}
