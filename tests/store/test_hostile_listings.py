"""Listings of servers that mean harm: without end, never closed, with keys that lead elsewhere."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import IntegrityError, UnavailableError
from regalia.store.collect import GRACE_S, collect
from regalia.store.listing import ENTRIES_MAX, LISTING_S, PAGES_MAX, ListingBounds
from regalia.store.names import StoreCode
from regalia.store.s3_words import elements
from tests.store.bucket_double import NOW, BucketDouble, Object
from tests.store.registry_double import RegistryDouble, whole

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.usefixtures("credentials"), pytest.mark.timeout(120)]
HEX = "ab" * 32
SOON_S = 20.0
DATES = [
    "Thu, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Thu, 01 Jan 1970 00:00:00 +9999999999999",
    "yesterday",
    "",
]


@pytest.fixture
def bucket() -> BucketDouble:
    return BucketDouble()


def quickly(call: Callable[[], object]) -> object:
    began = time.monotonic()
    found = call()
    assert time.monotonic() - began < SOON_S
    return found


@pytest.mark.parametrize("name", [b"Contents", b"Upload", b"Part"])
def test_elements_that_are_never_closed(name: bytes) -> None:
    page = b"<" + name + b">"
    assert quickly(lambda: elements(page * (1 << 18), name)) == []
    assert elements(page * 3 + b"a</" + name + b">b" + page + b"c", name) == [b"a"]


def test_a_page_that_is_never_closed(bucket: BucketDouble) -> None:
    bucket.instead["GET", "list-type"] = [whole(b"<Contents>" * 400_000)]
    assert quickly(lambda: list(bucket.objects_of().entries("blobs"))) == []


def test_xml_that_would_grow_is_only_text(bucket: BucketDouble) -> None:
    bomb = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    entry = b"<Contents><Key>m/blobs/&b;&b;</Key><Size>1</Size><LastModified>2027-01-15T00:00:00Z"
    bucket.instead["GET", "list-type"] = [whole(bomb + entry + b"</LastModified></Contents>")]
    assert list(bucket.objects_of().entries("blobs")) == []


@pytest.mark.parametrize(
    "name", ["../blobs/sha256-" + HEX, "..", ".", "a/sha256-" + HEX, "x?versionId=1", "%2e%2e", ""]
)
def test_keys_that_lead_elsewhere_are_nobodys(name: str, bucket: BucketDouble) -> None:
    bucket.objects[f"m/blobs/{name}"] = Object(b"x", NOW - 10 * GRACE_S)
    bucket.objects[f"m/versions/{name}"] = Object(b"x", NOW)
    assert list(bucket.objects_of().entries("blobs")) == []
    with bucket.repository() as repository:
        assert repository.tags() == []
        assert collect(repository, grace_s=GRACE_S, remove=True).blobs == ()
    assert "DELETE" not in {request.method for request in bucket.requests}


@pytest.mark.parametrize("entries", [0, 1000])
def test_a_listing_without_end(entries: int) -> None:
    bounds = ListingBounds("somewhere")
    for _ in range(ENTRIES_MAX // entries if entries else PAGES_MAX):
        bounds.count(entries)
    with pytest.raises(IntegrityError) as caught:
        bounds.count(entries)
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG
    assert str(ENTRIES_MAX + 1000 if entries else PAGES_MAX + 1) in str(caught.value)


def test_a_listing_that_takes_too_long() -> None:
    times = iter([0.0, LISTING_S - 1, LISTING_S + 1])
    bounds = ListingBounds("somewhere", lambda: next(times))
    bounds.count(1)
    with pytest.raises(UnavailableError) as caught:
        bounds.count(1)
    assert caught.value.code is StoreCode.STORE_FAILED


def test_tokens_without_end(bucket: BucketDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regalia.store.listing.PAGES_MAX", 20)
    text = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"
    asked = iter(range(1000))
    bucket.instead["GET", "list-type"] = [
        lambda _: httpx.Response(200, text=text.format(next(asked)))
    ]
    with pytest.raises(IntegrityError) as caught:
        list(bucket.objects_of().entries("blobs"))
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG


def test_pages_of_many_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as four megabytes hold, on as many pages as the bound allows."""
    monkeypatch.setattr("regalia.store.listing.ENTRIES_MAX", 500_000)
    registry = RegistryDouble()
    asked = iter(range(1000))

    def page(_: httpx.Request) -> httpx.Response:
        first = next(asked) * 200_000
        names = [f"t{first + number}" for number in range(200_000)]
        more = {"link": '</v2/x>; rel="next"'}
        return httpx.Response(200, headers=more, content=json.dumps({"tags": names}).encode())

    registry.instead["tags/list"] = [page]

    def tags() -> None:
        with pytest.raises(IntegrityError) as caught:
            registry.repository().tags()
        assert caught.value.code is StoreCode.STORE_ANSWER_WRONG

    quickly(tags)


@pytest.mark.parametrize("date", DATES)
def test_dates_that_are_none(date: str, bucket: BucketDouble) -> None:
    objects = bucket.objects_of()
    bucket.instead["HEAD", "blobs/b"] = [
        httpx.Response(200, headers={"date": date, "last-modified": date, "content-length": "1"})
    ]
    with pytest.raises(IntegrityError) as caught:
        objects.size("blobs/b")
    assert caught.value.code is StoreCode.STORE_ANSWER_WRONG
    assert abs(objects.now() - time.time()) < 60
