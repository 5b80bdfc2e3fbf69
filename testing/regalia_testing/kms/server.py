"""KMS's JSON protocol over HTTP on loopback."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from regalia_testing.kms.service import KmsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia_testing.kms.service import KmsService

_SKEW = timedelta(minutes=5)
_CREDENTIAL = re.compile(r"Credential=([A-Z0-9]+)/[0-9]{8}/([a-z0-9-]+)/kms/aws4_request")


@dataclass
class RunningKms:
    """A server, and what changes its answers in a test."""

    url: str
    service: KmsService
    known: set[str]
    spoil: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None
    refuse: Callable[[str], KmsError | None] | None = None

    def answer(self, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        """The answer to one request.

        Args:
            headers: names in lower case.
            body: of the request.

        Raises:
            KmsError: AWS's refusal.
        """
        found = _CREDENTIAL.search(headers.get("authorization", ""))
        if found is None:
            raise KmsError("MissingAuthenticationTokenException")
        if found[1] not in self.known:
            raise KmsError("UnrecognizedClientException", "The security token is invalid.")
        if found[2] != self.service.region:
            message = f"Credential should be scoped to a valid region, not '{found[2]}'."
            raise KmsError("InvalidSignatureException", message)
        made = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(self.service.clock() - made) > _SKEW:
            raise KmsError("InvalidSignatureException", f"Signature expired: {made}")
        name = headers["x-amz-target"].removeprefix("TrentService.")
        refused = self.refuse(name) if self.refuse is not None else None
        if refused is not None:
            raise refused
        answer = self.service.call(name, found[1], json.loads(body))
        return answer if self.spoil is None else self.spoil(name, answer)


@contextmanager
def running(service: KmsService, *callers: str) -> Iterator[RunningKms]:
    """Serve until the end.

    Args:
        service: that decides.
        callers: ids of access keys that are known.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                status, answer = 200, kms.answer(headers, body)
            except KmsError as exc:
                status, answer = exc.status, {"__type": exc.kind, "message": exc.message}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/x-amz-json-1.1")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kms = RunningKms(f"http://127.0.0.1:{server.server_address[1]}", service, set(callers))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield kms
    finally:
        server.shutdown()
        server.server_close()
