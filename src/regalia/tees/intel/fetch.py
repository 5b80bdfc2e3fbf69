"""Intel's Provisioning Certification Service v4, or a cache of it (PCCS) with the same paths.

Each document comes with its issuer chain in a header, as URL-encoded PEM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, UnavailableError
from regalia.host.fetch_codes import FetchCode
from regalia.tees.intel.evidence import parse
from regalia.tees.intel.evidence.needs import intel_platform
from regalia.tees.intel.evidence.online import CERTIFICATES, PCS
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.tees.intel.evidence.verified_collateral import prepare
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.online_collateral import FetchContext
    from regalia.host.fetch import VendorService
    from regalia.tees.intel.evidence import IntelAnchors
    from regalia.wire.evidence import Evidence

_TCB_INFO_CHAIN = "tcb-info-issuer-chain"
_IDENTITY_CHAIN = "sgx-enclave-identity-issuer-chain"
_PCK_CRL_CHAIN = "sgx-pck-crl-issuer-chain"


@dataclass(frozen=True, slots=True)
class WithChain:
    """A document and the certificates that go with it, PEM. Untrusted."""

    body: bytes
    chain: bytes


class Pcs:
    """One instance of the service. Everything that it answers is untrusted."""

    def __init__(self, service: VendorService) -> None:
        self._service = service

    def tcb_info(self, kind: str, fmspc: bytes) -> WithChain:
        """TCB info of a platform. Raises UnavailableError.

        Args:
            kind: ``sgx`` or ``tdx``.
            fmspc: of the platform, 6 bytes.
        """
        path = f"/{kind}/certification/v4/tcb"
        return self._get(path, {"fmspc": fmspc.hex().upper()}, _TCB_INFO_CHAIN)

    def identity(self, kind: str) -> WithChain:
        """Identity of the quoting enclave. Raises UnavailableError."""
        return self._get(f"/{kind}/certification/v4/qe/identity", {}, _IDENTITY_CHAIN)

    def pck_crl(self, authority: str) -> WithChain:
        """The PCK CA's list, DER; ``authority`` is ``platform`` or ``processor``.

        Raises:
            UnavailableError.
        """
        params = {"ca": authority, "encoding": "der"}
        return self._get("/sgx/certification/v4/pckcrl", params, _PCK_CRL_CHAIN)

    def _get(self, path: str, params: dict[str, str], header: str) -> WithChain:
        answer = self._service.get(path, params)
        chain = answer.headers.get(header)
        if chain is None:
            raise UnavailableError(
                FetchCode.COLLATERAL_SERVICE_FAILED, f"{path}: answered without {header}"
            )
        return WithChain(answer.body, unquote_to_bytes(chain))


def root_crl(certificates: VendorService) -> bytes:
    """The root's list, DER, from the address that Intel's root certificate names for it.

    Raises:
        UnavailableError.
    """
    return certificates.get("/IntelSGXRootCA.der").body


def fetch(every: Sequence[Evidence], at: FetchContext[IntelAnchors]) -> dict[str, bytes]:
    """Intel's documents and lists for the platform of each quote.

    Args:
        every: evidence, raw, untrusted; says which platform.
        at: whom to ask, and what the answers must verify under.

    Raises:
        UsageError: an address is not given.
        UnavailableError: a service does not answer.
        ParseError, AttestationError: what it answered is not signed by Intel.
    """
    pcs, certificates = Pcs(at.ask(PCS)), at.ask(CERTIFICATES)
    if at.anchors is None:
        raise AttestationError(AttestCode.ROOT_UNTRUSTED, "no root of Intel's is trusted")
    files: dict[str, bytes] = {}
    for evidence in every:
        found = _documents_of(evidence, pcs, certificates)
        prepare(collateral_of(at.read(found)), anchors=at.anchors, cache=Cache())
        files |= found
    return files


def _documents_of(evidence: Evidence, pcs: Pcs, certificates: VendorService) -> dict[str, bytes]:
    platform = intel_platform(parse(evidence).report.read().pck_chain)
    kind = "sgx" if evidence.tee is Tee.SGX else "tdx"
    authority = "processor" if "Processor" in platform.authority else "platform"
    info, identity = pcs.tcb_info(kind, platform.fmspc), pcs.identity(kind)
    crl = pcs.pck_crl(authority)
    return {
        f"intel-{kind}-tcb-{platform.fmspc.hex()}.json": info.body,
        f"intel-{kind}-qe-identity.json": identity.body,
        "intel-tcb-signing.pem": info.chain,
        "intel-qe-identity-signing.pem": identity.chain,
        f"intel-pck-{authority}.crl": crl.body,
        f"intel-pck-{authority}-ca.pem": crl.chain,
        "intel-root.crl": root_crl(certificates),
    }
