"""TCB info and QE identities of the simulated Intel: JSON as its PCS would answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from regalia.core.clock import rfc3339
from regalia_testing.certificates import BACKDATED
from regalia_testing.tees.intel.defects import ISV_SVN, PLATFORM_SVN

if TYPE_CHECKING:
    from datetime import datetime

FMSPC = bytes.fromhex("00ffee000000")
PCE_ID = bytes(2)
PCE_SVN = 13
EVALUATION_DATA_NUMBER = 18
NEXT_UPDATE = timedelta(days=365)  # Intel's is 30 days
TDX_SVN = 3  # component 2 of TEE_TCB_SVN
MODULE_SIGNER = bytes(48)  # like Intel's own
QE_SIGNERS = {"QE": b"\x0e" * 32, "TD_QE": b"\x0f" * 32}
QE_PROD_IDS = {"QE": 1, "TD_QE": 2}
TCB_DATE = "2026-08-12T00:00:00Z"
SGX_SVNS = 16
_QE_ATTRIBUTES = "11000000000000000000000000000000"
_QE_ATTRIBUTES_MASK = "FBFFFFFFFFFFFFFF0000000000000000"


@dataclass(frozen=True, slots=True)
class Documents:
    """Signs documents; every method takes changes to the inner object, for defects."""

    key: ec.EllipticCurvePrivateKey  # TCB signing
    since: datetime

    def tcb_info(self, kind: str, **changes: Any) -> bytes:  # noqa: ANN401 - any member
        """The response for ``SGX`` or ``TDX``."""
        body: dict[str, Any] = {
            "id": kind,
            "version": 3,
            **self._dates(),
            "fmspc": FMSPC.hex(),
            "pceId": PCE_ID.hex(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": EVALUATION_DATA_NUMBER,
        }
        if kind == "TDX":
            module = {
                "mrsigner": MODULE_SIGNER.hex(),
                "attributes": "00" * 8,
                "attributesMask": "FF" * 8,
            }
            body["tdxModule"] = module
            body["tdxModuleIdentities"] = [
                {"id": name, **module, "tcbLevels": isv_levels("INTEL-SA-00002")}
                for name in ("TDX_03", "TDX_01")
            ]
        body["tcbLevels"] = [
            _level(kind, name, index) for index, name in enumerate(PLATFORM_SVN) if name != "below"
        ]
        return self.sign("tcbInfo", {**body, **changes})

    def identity(self, kind: str, **changes: Any) -> bytes:  # noqa: ANN401 - any member
        """The response for ``QE`` or ``TD_QE``."""
        body: dict[str, Any] = {
            "id": kind,
            "version": 2,
            **self._dates(),
            "tcbEvaluationDataNumber": EVALUATION_DATA_NUMBER,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": _QE_ATTRIBUTES,
            "attributesMask": _QE_ATTRIBUTES_MASK,
            "mrsigner": QE_SIGNERS[kind].hex().upper(),
            "isvprodid": QE_PROD_IDS[kind],
            "tcbLevels": isv_levels("INTEL-SA-00003"),
        }
        return self.sign("enclaveIdentity", {**body, **changes})

    def sign(self, member: str, body: dict[str, Any]) -> bytes:
        """A response: the object, and r and s over its exact bytes."""
        inner = msgspec.json.encode(body)
        signature = raw_signature(self.key, inner)
        return b'{"%s":%s,"signature":"%s"}' % (
            member.encode(),
            inner,
            signature.hex().encode(),
        )

    def _dates(self) -> dict[str, str]:
        return {
            "issueDate": rfc3339(self.since - BACKDATED),
            "nextUpdate": rfc3339(self.since + NEXT_UPDATE),
        }


def _level(kind: str, name: str, index: int) -> dict[str, Any]:
    """Component 1 tells the levels apart; the others are the same on all."""
    svns = [PLATFORM_SVN[name], *([2] * (SGX_SVNS - 1))]
    tcb: dict[str, Any] = {"sgxtcbcomponents": [{"svn": svn} for svn in svns], "pcesvn": PCE_SVN}
    if kind == "TDX":
        tdx = [5, 0, TDX_SVN, *([0] * (SGX_SVNS - 3))]
        tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in tdx]
    advisories = {"advisoryIDs": [f"INTEL-SA-0001{index}"]} if index else {}
    return {"tcb": tcb, "tcbDate": TCB_DATE, "tcbStatus": name, **advisories}


def isv_levels(advisory: str) -> list[dict[str, Any]]:
    """Levels of an enclave or a module."""
    return [
        {
            "tcb": {"isvsvn": svn},
            "tcbDate": TCB_DATE,
            "tcbStatus": name,
            **({} if name == "UpToDate" else {"advisoryIDs": [advisory]}),
        }
        for name, svn in ISV_SVN.items()
        if name != "below"
    ]


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA with SHA-256, r and s, 64 bytes.

    Deterministic (RFC 6979): a quoting enclave has its report signed once, and sends the same
    bytes with every quote.
    """
    scheme = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(key.sign(message, scheme))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
