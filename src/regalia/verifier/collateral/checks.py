"""What collateral adds to every verifier's checks, for check logs and for `regalia attest verify`.

They are entered only where there is something to check: a bundle, or a deny-list.
"""

from __future__ import annotations

from regalia.appraisal.check import Check, Source

BUNDLE = Check(
    "collateral/bundle",
    "The collateral bundle is in date",
    "Whoever holds newer bundles back would hide what was revoked or found weak since.",
    Source.VERIFIER_DERIVED,
)
CERTIFICATES = Check(
    "collateral/certificates",
    "The site's deny-lists name no certificate that came along",
    "The site withdrew its trust in a key, whatever the vendor says of it.",
    Source.OPERATOR_ASSERTED,
)
DEVICES = Check(
    "collateral/devices",
    "The site's deny-lists name neither the machine nor a device of it",
    "A machine that was stolen or opened still has genuine keys.",
    Source.OPERATOR_ASSERTED,
)
