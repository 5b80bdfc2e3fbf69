"""The numbered checks of ``verify``, as a check log shows them."""

from __future__ import annotations

from regalia.appraisal.check import Check, Source

REPORT = Check(
    "snp/report",
    "The report has a known version and size, and everything reserved is zero",
    "A report that can be read in two ways could mean one thing to a verifier and another to the"
    " next reader.",
    Source.VERIFIER_DERIVED,
)
SIGNING_KEY = Check(
    "snp/signing-key",
    "The report says which kind of key signed it: a chip's (VCEK) or a cloud's (VLEK)",
    "The two kinds prove different things; one must not pass for the other.",
    Source.VERIFIER_DERIVED,
)
ROOT = Check(
    "snp/root",
    "The certificates lead to the pinned root key of one AMD product line",
    "Anybody can make a certificate that is named like AMD's; only AMD has the key.",
    Source.HARDWARE_PROVEN,
)
CHAIN = Check(
    "snp/chain",
    "Root, intermediate and leaf are signed one by the other, each within its bounds",
    "Each signature passes AMD's word on, down to the key that signed the report.",
    Source.HARDWARE_PROVEN,
)
VALIDITY = Check(
    "snp/validity",
    "Every certificate is valid at the time of the appraisal",
    "Outside its dates nobody vouches for a key.",
    Source.HARDWARE_PROVEN,
)
REVOCATION = Check(
    "snp/revocation",
    "AMD's revocation list is in date and names none of the certificates",
    "AMD withdraws a signing key that leaked; without the list nobody would notice.",
    Source.HARDWARE_PROVEN,
)
LEAF = Check(
    "snp/leaf",
    "The leaf's extensions say for which product, firmware level, chip or cloud it was issued",
    "The key changes with the firmware; the certificate says which firmware it stands for.",
    Source.HARDWARE_PROVEN,
)
PRODUCT = Check(
    "snp/product",
    "The report is from a CPU of the product line that the certificates are for",
    "Each line has its own root and its own known weaknesses.",
    Source.HARDWARE_PROVEN,
)
CHIP_KEY = Check(
    "snp/chip-key",
    "The host lets the chip vouch for its reports (MASK_CHIP_KEY is off)",
    "With the chip's key masked, a report proves nothing about where it was made.",
    Source.HARDWARE_PROVEN,
)
TCB = Check(
    "snp/tcb",
    "REPORTED_TCB is the firmware level that the leaf was issued for",
    "A key of better firmware must not vouch for a report of worse firmware.",
    Source.HARDWARE_PROVEN,
)
CHIP = Check(
    "snp/chip",
    "CHIP_ID is the chip that the leaf was issued for",
    "A key of one chip must not vouch for another. A cloud's VLEK names no chip.",
    Source.HARDWARE_PROVEN,
)
SIGNATURE = Check(
    "snp/signature",
    "The leaf's key signed the report",
    "Only the firmware of that chip can sign with that key, so nobody else made the report.",
    Source.HARDWARE_PROVEN,
)
REPORT_DATA = Check(
    "snp/report-data",
    "REPORT_DATA is the hash of this challenge, purpose and these keys",
    "A report carries no time; without the challenge it could be years old or somebody else's.",
    Source.HARDWARE_PROVEN,
)
TCB_LAYOUT = Check(
    "snp/tcb-layout",
    "All four TCB versions have only components that the product knows",
    "A level that cannot be read cannot be compared with a minimum.",
    Source.HARDWARE_PROVEN,
)

# In the order in which the plug-in makes them.
CHECKS = (
    REPORT,
    SIGNING_KEY,
    ROOT,
    CHAIN,
    VALIDITY,
    REVOCATION,
    LEAF,
    PRODUCT,
    CHIP_KEY,
    TCB,
    CHIP,
    SIGNATURE,
    TCB_LAYOUT,
    REPORT_DATA,
)
