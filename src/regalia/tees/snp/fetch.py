"""AMD's key distribution service (AMD 57230, VCEK and VLEK certificates and KDS interface)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.tees.snp.evidence.wire import Product

if TYPE_CHECKING:
    from regalia.host.fetch import VendorService
    from regalia.tees.snp.claims import Tcb

PUBLIC_ADDRESS = "https://kdsintf.amd.com"

_SPL = {"bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}


class Kds:
    """One instance of the service, AMD's or a mirror. Everything that it answers is untrusted."""

    def __init__(self, service: VendorService) -> None:
        self._service = service

    def vcek(self, product: Product, hwid: bytes, tcb: Tcb) -> bytes:
        """The VCEK of one chip at one TCB, DER. Raises UnavailableError.

        Args:
            product: product line of the chip.
            hwid: of the chip, 64 bytes, or 8 on Turin.
            tcb: that the key was derived with.
        """
        components = tcb.components()
        spls = dict(_SPL) if product is not Product.TURIN else {"fmc": "fmcSPL", **_SPL}
        params = {name: f"{components[component]:02}" for component, name in spls.items()}
        return self._service.get(f"/vcek/v1/{product}/{hwid.hex()}", params).body

    def chain(self, product: Product, kind: str) -> bytes:
        """ASK or ASVK, then ARK, PEM. Raises UnavailableError.

        Args:
            product: product line of the chips.
            kind: ``vcek`` or ``vlek``.
        """
        return self._service.get(f"/{kind}/v1/{product}/cert_chain").body

    def crl(self, product: Product, kind: str) -> bytes:
        """The ARK's revocation list, DER. Raises UnavailableError.

        Args:
            product: product line of the chips.
            kind: ``vcek`` or ``vlek``.
        """
        return self._service.get(f"/{kind}/v1/{product}/crl").body
