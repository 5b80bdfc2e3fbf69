"""An HTTP server that answers as a test says, for what real servers do not do on demand."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Asked:
    """One request, and what all requests before it were."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Double:
    """A running server. ``answer`` gives status and JSON, or bytes as they are."""

    url: str
    answer: Callable[[Asked], tuple[int, Any]]
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def answering(answer: Callable[[Asked], tuple[int, Any]]) -> Iterator[Double]:
    """Serve on loopback until the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            size = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, self.rfile.read(size))
            double.asked.append(asked)
            status, value = double.answer(asked)
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    for method in ("GET", "POST", "PUT", "DELETE", "LIST"):
        setattr(Handler, f"do_{method}", Handler._answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign, assignment, misc]
    double = Double(f"http://127.0.0.1:{server.server_address[1]}", answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
