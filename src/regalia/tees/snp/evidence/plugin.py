"""SEV-SNP as the verifier sees it."""

from __future__ import annotations

from regalia.appraisal.evidence_plugin import EvidencePlugin, machine_identity
from regalia.tees.snp.evidence.checks import CHECKS
from regalia.tees.snp.evidence.needs import needs
from regalia.tees.snp.evidence.online import ONLINE
from regalia.tees.snp.evidence.vendor import AMD
from regalia.tees.snp.evidence.verify import NONCE, parse, verify_genuine
from regalia.wire.evidence import Tee

SNP = EvidencePlugin(
    kind=Tee.SEV_SNP,
    about=(
        "An SEV-SNP report is signed by a key in an AMD processor. It names the chip, the versions"
        " of its firmware (TCB), and the digest of the virtual machine's first memory"
        " (MEASUREMENT): that is how you know what was started. The cloud's staff cannot read the"
        " memory of such a machine, unless it was started in debug mode."
    ),
    vendor=AMD,
    checks=CHECKS,
    nonce=NONCE,
    parse=parse,
    genuine=verify_genuine,
    needs=needs,
    online=ONLINE,
    identities=machine_identity,
)
