"""Intel's Provisioning Certification Service v4, or a cache of it (PCCS) with the same paths.

Each document comes with its issuer chain in a header, as URL-encoded PEM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from regalia.core.errors import UnavailableError
from regalia.host.fetch_codes import FetchCode

if TYPE_CHECKING:
    from regalia.host.fetch import VendorService

PUBLIC_ADDRESS = "https://api.trustedservices.intel.com"
PUBLIC_CERTIFICATES = "https://certificates.trustedservices.intel.com"

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
