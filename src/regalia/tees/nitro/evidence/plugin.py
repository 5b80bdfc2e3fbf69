"""AWS Nitro as the verifier sees it."""

from __future__ import annotations

from regalia.appraisal.evidence_plugin import EvidencePlugin, MachineNames, machine_identity
from regalia.tees.nitro.evidence import checks
from regalia.tees.nitro.evidence.needs import needs
from regalia.tees.nitro.evidence.vendor import AWS
from regalia.tees.nitro.evidence.verify import NONCE, parse, verify_genuine
from regalia.wire.evidence import Tee

# AWS names instances in words, all others in bytes.
INSTANCES = MachineNames(
    lambda instance: instance.decode("ascii", "replace"),
    r"i-[0-9a-f]+",
    "the i-... of an AWS instance",
)

NITRO = EvidencePlugin(
    kind=Tee.NITRO,
    about=(
        "A Nitro document is signed by AWS's hypervisor, so it is AWS whom you trust: no processor"
        " maker stands behind it. PCR0 is the digest of the enclave's image, PCR8 the certificate"
        " that signed the image. In debug mode these registers are zero."
    ),
    vendor=AWS,
    checks=checks.CHECKS,
    nonce=NONCE,
    parse=parse,
    genuine=verify_genuine,
    needs=needs,
    identities=machine_identity,
    machine_names=INSTANCES,
)
