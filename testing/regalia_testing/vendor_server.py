"""Vendors' collateral services on loopback: AMD's KDS, Intel's PCS, NVIDIA's RIM service.

with VendorServer() as server:
server.serve_kds(platform)
fetch from server.url
server.asked     every path and query that came
"""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from regalia.tees.snp.evidence.wire import decode_tcb
from regalia_testing.tees.intel.documents import FMSPC
from regalia_testing.tees.intel.quotes import pem_chain

if TYPE_CHECKING:
    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.intel.simulator import IntelSimulator
    from regalia_testing.tees.snp.simulator import SnpSimulator

_SPL = {"bl": "bootloader", "tee": "tee", "snp": "snp", "ucode": "microcode"}


@dataclass
class Served:
    """One answer."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


class VendorServer:
    """Answers what it was told to, and 404 otherwise."""

    def __init__(self) -> None:
        self.answers: dict[str, Served] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = canonical(self.path)
                server.asked.append(key)
                answer = server.answers.get(key, Served(b"", status=404))
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # The interval is how long stopping may take.
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def put(self, path: str, body: bytes, **headers: str) -> None:
        """Serve ``body`` at a path with its query; underscores in header names are hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[canonical(path)] = Served(body, named)

    def serve_kds(self, platform: SnpSimulator, evidence: Evidence) -> str:
        """AMD's service, as far as ``evidence`` needs it; returns the path of the leaf."""
        product = platform.product
        for kind, middle in (("vcek", platform.ask), ("vlek", platform.asvk)):
            chain = pem_chain(middle, platform.ark)
            self.put(f"/{kind}/v1/{product}/cert_chain", chain)
            self.put(f"/{kind}/v1/{product}/crl", platform.crl)
        tcb = decode_tcb(evidence.report[0x180:0x188], product).components()
        names = {"fmc": "fmc", **_SPL} if platform.authority.product == "Turin" else _SPL
        query = urlencode({f"{name}SPL": f"{tcb[part]:02}" for name, part in names.items()})
        path = f"/vcek/v1/{product}/{platform.hwid.hex()}?{query}"
        self.put(path, evidence.endorsements[0])
        return canonical(path)

    def serve_pcs(self, platform: IntelSimulator) -> None:
        """Intel's service, and the address where its root publishes its list."""
        authority, documents = platform.authority, platform.documents
        signing = quote(pem_chain(authority.tcb_signing(), authority.root()))
        v4 = "certification/v4"
        for kind, identity in (("sgx", "QE"), ("tdx", "TD_QE")):
            self.put(
                f"/{kind}/{v4}/tcb?fmspc={FMSPC.hex().upper()}",
                documents.tcb_info(kind.upper()),
                TCB_Info_Issuer_Chain=signing,
            )
            self.put(
                f"/{kind}/{v4}/qe/identity",
                documents.identity(identity),
                SGX_Enclave_Identity_Issuer_Chain=signing,
            )
        for name in ("platform", "processor"):
            processor = name == "processor"
            chain = pem_chain(authority.pck_ca(processor=processor), authority.root())
            self.put(
                f"/sgx/{v4}/pckcrl?ca={name}&encoding=der",
                authority.pck_crl(processor=processor),
                SGX_PCK_CRL_Issuer_Chain=quote(chain),
            )
        self.put("/IntelSGXRootCA.der", authority.root_crl())

    def serve_rim(self, rim_id: str, xml: bytes) -> None:
        """NVIDIA's service, one manifest."""
        body = json.dumps({"id": rim_id, "rim": base64.b64encode(xml).decode()}).encode()
        self.put(f"/v1/rim/{rim_id}", body)


def canonical(path: str) -> str:
    """Path and query with its parameters in order."""
    parts = urlsplit(path)
    query = urlencode(sorted(parse_qsl(parts.query)))
    return f"{parts.path}?{query}" if query else parts.path
