"""TDX and SGX as the verifier sees them."""

from __future__ import annotations

from regalia.appraisal.evidence_plugin import EvidencePlugin, machine_identity
from regalia.tees.intel.evidence.checks import SGX_CHECKS, TDX_CHECKS
from regalia.tees.intel.evidence.needs import needs
from regalia.tees.intel.evidence.online import ONLINE
from regalia.tees.intel.evidence.vendor import INTEL
from regalia.tees.intel.evidence.verify import NONCE, parse, verify_sgx, verify_tdx
from regalia.wire.evidence import Tee

TDX = EvidencePlugin(
    kind=Tee.TDX,
    about=(
        "A TDX quote is signed by Intel's quoting enclave on the machine. MRTD is the digest of"
        " the virtual machine's firmware, and RTMR0 to RTMR3 grow with everything that is started"
        " afterwards. Intel publishes which firmware levels have known weaknesses (TCB info); the"
        " status below comes from that list."
    ),
    vendor=INTEL,
    checks=TDX_CHECKS,
    nonce=NONCE,
    parse=parse,
    genuine=verify_tdx,
    needs=needs,
    online=ONLINE,
    identities=machine_identity,
)
SGX = EvidencePlugin(
    kind=Tee.SGX,
    about=(
        "An SGX quote is signed by Intel's quoting enclave on the machine. MRENCLAVE is the digest"
        " of one enclave, MRSIGNER the key of who built it. Intel publishes which firmware levels"
        " have known weaknesses (TCB info); the status comes from that list."
    ),
    vendor=INTEL,
    checks=SGX_CHECKS,
    nonce=NONCE,
    parse=parse,
    genuine=verify_sgx,
    needs=needs,
    online=ONLINE,
    identities=machine_identity,
)
