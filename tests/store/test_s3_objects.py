"""Writing to S3: conditions, uploads that are gone on with, listings, and servers that lie."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from regalia.core.errors import CoreCode, IntegrityError, UnavailableError
from regalia.core.types import Digest
from regalia.seal.check import verify_ciphertext
from regalia.seal.progress import no_progress
from regalia.store import s3_uploads
from regalia.store.attempts import ATTEMPTS
from regalia.store.collect import GRACE_S, collect
from regalia.store.content import Content
from regalia.store.image import Blob, Image, Label
from regalia.store.local import LocalBlobs
from regalia.store.names import StoreCode
from regalia.store.push import push
from regalia.store.repository import REUSE_S
from regalia.store.s3_uploads import part_size
from tests.store.bucket_double import NOW, BucketDouble, Object
from tests.store.owned import sealed
from tests.store.s3_double import SECRET, problem

if TYPE_CHECKING:
    from regalia.core.errors import RegaliaError
    from regalia.store.push import Pushed
    from tests.store.owned import Sent

pytestmark = pytest.mark.usefixtures("credentials")
DATA = bytes(range(250)) * 100
NAME = "shard-00000.seal"


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    return sealed(tmp_path_factory.mktemp("owned"))


@pytest.fixture
def bucket() -> BucketDouble:
    return BucketDouble()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 5000 bytes, so that DATA has five."""
    monkeypatch.setattr(s3_uploads, "PART", 5000)
    monkeypatch.setattr(s3_uploads, "_MIB", 1)
    monkeypatch.setattr("regalia.store.s3_objects.PART", 5000)


def content(data: bytes = DATA, digest: bytes | None = None) -> Content:
    class Source:
        def read_into(self, _name: str, offset: int, buffer: memoryview) -> None:
            buffer[:] = data[offset : offset + len(buffer)]

        def describe(self) -> str:
            return "here"

        def size(self, _name: str) -> int:
            return len(data)

    blob = Blob(NAME, Digest.of(data if digest is None else digest), len(data))
    return Content(Source(), blob, lambda _count: None)


def put(bucket: BucketDouble, what: Content | None = None) -> None:
    bucket.objects_of().put_content("blobs/b", what or content())


def refused(call: object) -> RegaliaError:
    with pytest.raises((IntegrityError, UnavailableError)) as caught:
        call()  # type: ignore[operator]
    assert SECRET not in str(caught.value)
    return caught.value


def send(sent: Sent, bucket: BucketDouble, image: Image | None = None) -> Pushed:
    with LocalBlobs(sent.folder) as source, bucket.repository() as repository:
        return push(
            source, image or sent.image, repository, "v1", replace=False, progress=no_progress
        )


def methods(bucket: BucketDouble) -> list[str]:
    return [request.method for request in bucket.requests]


def test_a_model_is_pushed_and_read(sent: Sent, bucket: BucketDouble) -> None:
    assert send(sent, bucket).sent == len(sent.image.blobs)
    assert send(sent, bucket).sent == 0
    assert {key.split("/")[1] for key in bucket.objects} == {"blobs", "versions"}
    with bucket.repository() as repository, repository.open("v1") as blobs:
        names = frozenset(sent.names())
        manifest = sent.owned.verified()
        verify_ciphertext(blobs, manifest, names=names, threads=2, progress=no_progress)


def test_two_names_at_once(sent: Sent, bucket: BucketDouble) -> None:
    barrier = threading.Barrier(2)

    def one(label: str) -> object:
        barrier.wait(10)
        try:
            return send(sent, bucket, Image(sent.image.blobs, Label(label))).digest
        except UnavailableError as exc:
            return exc.code

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one, ["a", "b"]))
    assert StoreCode.VERSION_EXISTS in results
    (digest,) = [each for each in results if isinstance(each, Digest)]
    assert bucket.repository().resolve("v1") == digest


def test_a_name_is_written_on_a_condition(bucket: BucketDouble) -> None:
    objects = bucket.objects_of()
    assert objects.put("versions/v1", b"one", over="")
    assert bucket.requests[-1].headers["if-none-match"] == "*"
    assert not objects.put("versions/v1", b"two", over="")
    found = objects.get("versions/v1", 100)
    assert found is not None
    assert objects.put("versions/v1", b"two", over=found.state)
    assert not objects.put("versions/v1", b"three", over=found.state)
    assert bucket.objects["m/versions/v1"].data == b"two"


@pytest.mark.parametrize("status", [409, 412])
def test_a_condition_that_does_not_hold(status: int, bucket: BucketDouble) -> None:
    bucket.instead["PUT", "versions/"] = [problem(status, "ConditionalRequestConflict")]
    assert not bucket.objects_of().put("versions/v1", b"one", over="")


def test_a_state_that_cannot_be_compared(bucket: BucketDouble) -> None:
    error = refused(lambda: bucket.objects_of().put("versions/v1", b"one", over='W/"x"'))
    assert error.code is StoreCode.STORE_ANSWER_WRONG
    assert bucket.requests == []


@pytest.mark.usefixtures("small_parts")
def test_a_large_blob_goes_in_parts(bucket: BucketDouble) -> None:
    put(bucket)
    assert bucket.objects["m/blobs/b"].data == DATA
    assert methods(bucket).count("PUT") == 5
    assert bucket.uploads == {}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("damaged", [0, 2])
def test_an_upload_is_gone_on_with(damaged: int, bucket: BucketDouble) -> None:
    bucket.instead["PUT", "partNumber=4"] = [problem(403, "AccessDenied")]
    assert refused(lambda: put(bucket)).code is StoreCode.STORE_ACCESS_REFUSED
    (parts,) = [parts for _, parts in bucket.uploads.values()]
    assert {1, 2, 3} <= set(parts)
    if damaged:
        parts[damaged] = b"other"
    there = len(parts)
    bucket.instead.clear()
    bucket.requests.clear()
    put(bucket)
    assert bucket.objects["m/blobs/b"].data == DATA
    assert methods(bucket).count("PUT") == 5 - there + (1 if damaged else 0)


@pytest.mark.usefixtures("small_parts")
def test_what_was_begun_long_ago_is_not_sent_twice(sent: Sent, bucket: BucketDouble) -> None:
    bucket.begun = NOW - 10 * REUSE_S
    total = sum(blob.size for blob in sent.image.blobs)
    assert send(sent, bucket).sent_bytes == total
    parts = [request for request in bucket.requests if "partNumber" in str(request.url)]
    assert sum(len(request.content) for request in parts) <= total
    assert bucket.repository().tags() == ["v1"]


@pytest.mark.usefixtures("small_parts")
def test_uploads_of_other_blobs_are_left_alone(bucket: BucketDouble) -> None:
    bucket.uploads["other"] = ("m/blobs/b2", {})
    put(bucket)
    assert bucket.uploads == {"other": ("m/blobs/b2", {})}


@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_another_process_finished(bucket: BucketDouble) -> None:
    def first(_request: httpx.Request) -> None:
        bucket.objects["m/blobs/b"] = Object(DATA)
        bucket.uploads.clear()

    bucket.instead["POST", "uploadId="] = [first]
    put(bucket)


@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_another_process_finished_in_the_middle(bucket: BucketDouble) -> None:
    def first(_request: httpx.Request) -> None:
        bucket.objects["m/blobs/b"] = Object(DATA)
        bucket.uploads.clear()

    bucket.instead["PUT", "partNumber=3"] = [first]
    put(bucket)


@pytest.mark.usefixtures("small_parts")
def test_an_upload_that_was_given_up_in_the_middle_is_begun_again(
    sent: Sent, bucket: BucketDouble
) -> None:
    given_up = iter([bucket.uploads.clear])

    def give_up(_request: httpx.Request) -> None:
        next(given_up, lambda: None)()

    bucket.instead["PUT", "partNumber=3"] = [give_up]
    send(sent, bucket)
    assert all(f"m/blobs/{blob.stored}" in bucket.objects for blob in sent.image.blobs)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
def test_an_error_behind_a_status_of_success_may_pass(code: str, bucket: BucketDouble) -> None:
    failures = [problem(200, code)]
    bucket.instead["POST", "uploadId="] = [lambda _: failures.pop() if failures else None]
    put(bucket)
    assert bucket.objects["m/blobs/b"].data == DATA
    assert len(bucket.pauses) == 1


@pytest.mark.usefixtures("small_parts")
def test_a_file_that_is_not_what_was_signed_is_given_up(bucket: BucketDouble) -> None:
    error = refused(lambda: put(bucket, content(digest=b"other")))
    assert error.code is StoreCode.BLOB_CHANGED
    assert bucket.uploads == {}
    assert bucket.objects == {}


def test_a_small_file_that_is_not_what_was_signed(bucket: BucketDouble) -> None:
    assert refused(lambda: put(bucket, content(digest=b"o"))).code is StoreCode.BLOB_CHANGED
    assert bucket.requests == []


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("method", "part", "answer"),
    [
        ("POST", "uploads=", httpx.Response(200, text="<r></r>")),
        ("POST", "uploads=", httpx.Response(200, text="<UploadId>a b</UploadId>")),
        ("PUT", "partNumber=", httpx.Response(200)),
        ("PUT", "partNumber=", httpx.Response(200, headers={"etag": '"<evil>"'})),
        (
            "POST",
            "uploadId=",
            httpx.Response(200, text="<Error><Code>InvalidPart</Code></Error>"),
        ),
        ("GET", "uploads=", httpx.Response(200, text="x" * (5 << 20))),
    ],
)
def test_a_server_that_says_something_else(
    method: str, part: str, answer: httpx.Response, bucket: BucketDouble
) -> None:
    bucket.instead[method, part] = [answer]
    assert refused(lambda: put(bucket)).code is StoreCode.STORE_ANSWER_WRONG


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(403, "AccessDenied"), StoreCode.STORE_ACCESS_REFUSED),
        (problem(400, "ExpiredToken"), StoreCode.STORE_ACCESS_REFUSED),
        (
            problem(307, "TemporaryRedirect", location="https://e.example/"),
            StoreCode.STORE_ANSWER_WRONG,
        ),
        (problem(404, "NoSuchBucket"), StoreCode.BLOB_MISSING),
        (problem(503, "SlowDown"), StoreCode.STORE_FAILED),
        (problem(400, "SlowDown"), StoreCode.STORE_FAILED),
        (httpx.ConnectError("no route"), CoreCode.PEER_UNREACHABLE),
    ],
)
def test_a_server_that_refuses(answer: object, code: object, bucket: BucketDouble) -> None:
    bucket.instead["PUT", "blobs/"] = [answer]
    assert refused(lambda: put(bucket)).code is code
    assert len(bucket.requests) in {1, ATTEMPTS}
    assert {request.url.host for request in bucket.requests} == {"127.0.0.1"}


def test_a_bucket_that_is_not_there_is_not_a_version_that_is_missing(bucket: BucketDouble) -> None:
    bucket.instead["GET", "versions/"] = [problem(404, "NoSuchBucket")]
    repository = bucket.repository()
    with pytest.raises(UnavailableError, match="NoSuchBucket") as got:
        repository.load("v1")
    assert got.value.code is StoreCode.BLOB_MISSING


def test_a_storm_that_passes(bucket: BucketDouble) -> None:
    bucket.instead["PUT", "blobs/"] = [
        problem(503, "SlowDown"),
        httpx.ReadError("x"),
        bucket.honest,
    ]
    put(bucket)
    assert bucket.objects["m/blobs/b"].data == DATA


def test_all_pages_of_a_listing(bucket: BucketDouble) -> None:
    for number in range(7):
        bucket.objects[f"m/blobs/b{number}"] = Object(b"x" * number)
    bucket.objects["m/blobsy/x"] = Object(b"")
    bucket.page = 3
    found = list(bucket.objects_of().entries("blobs"))
    assert [entry.key for entry in found] == [f"blobs/b{number}" for number in range(7)]
    assert [entry.size for entry in found] == list(range(7))
    assert found[0].modified == NOW


LISTED = "<Contents><Key>{}</Key><Size>{}</Size><LastModified>{}</LastModified></Contents>"
DATE = "2026-12-01T00:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        LISTED.format("other/blobs/b", 1, DATE),
        LISTED.format("m/blobs/b", -1, DATE),
        LISTED.format("m/blobs/b", "", DATE),
        LISTED.format("m/blobs/b", 1, "yesterday"),
        "<IsTruncated>true</IsTruncated>",
        "<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>",
    ],
)
def test_a_listing_of_something_else(text: str, bucket: BucketDouble) -> None:
    bucket.instead["GET", "list-type"] = [httpx.Response(200, text=text)]
    error = refused(lambda: list(bucket.objects_of().entries("blobs")))
    assert error.code is StoreCode.STORE_ANSWER_WRONG
    assert len(bucket.requests) <= 2


@pytest.mark.parametrize("missing", ["last-modified", "content-length"])
def test_an_object_without(missing: str, bucket: BucketDouble) -> None:
    headers = Object(b"x").headers
    del headers[missing]
    bucket.instead["HEAD", "blobs/"] = [httpx.Response(200, headers=headers)]
    error = refused(lambda: bucket.objects_of().size("blobs/b"))
    assert error.code is StoreCode.STORE_ANSWER_WRONG


def test_small_objects_are_small(bucket: BucketDouble) -> None:
    bucket.objects["m/versions/v1"] = Object(b"x" * 100)
    assert refused(lambda: bucket.objects_of().get("versions/v1", 99)).code is (
        StoreCode.STORE_ANSWER_WRONG
    )


def test_age_is_counted_by_the_servers_clock(sent: Sent, bucket: BucketDouble) -> None:
    """Ours may be wrong by years: what is young to the server is kept."""
    stray = f"m/blobs/sha256-{'0' * 64}"
    send(sent, bucket)
    bucket.objects[stray] = Object(b"x", NOW)
    bucket.uploads["u"] = ("m/blobs/b", {})
    with bucket.repository() as repository:
        done = collect(repository, grace_s=GRACE_S, remove=True)
        assert (done.blobs, done.kept_young, done.uploads) == ((), 1, ())
        bucket.now = NOW + GRACE_S + 60
        done = collect(repository, grace_s=GRACE_S, remove=True)
        assert (done.blobs, len(done.uploads)) == ((stray.removeprefix("m/"),), 1)
    assert bucket.uploads == {}
    assert stray not in bucket.objects


def test_parts_follow_from_the_size_alone() -> None:
    for size in (1, 16 << 20, 1 << 38, 1 << 42):
        part = part_size(size)
        assert part >= 16 << 20
        assert part % (1 << 20) == 0
        assert -(-size // part) <= 10_000
