"""The fields of the Nitro section, in the order of its struct."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import is_pinned, one_of, revocation_known
from regalia.appraisal.finding import finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field
from regalia.appraisal.policy_words import WORDS, hex_entry, typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regalia.appraisal.field_kinds import Pinned
    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_doc import Unrestricted
    from regalia.appraisal.policy_field import PinChoices
    from regalia.tees.nitro.claims import NitroClaims

PCR_SIZE = 48  # bytes
PINNED_MAX_AGE_S = 300  # AWS's documents are made on demand


def _register(  # noqa: PLR0913 - all are named
    index: int,
    *,
    code: PolicyCode,
    content: str,
    noun: str,
    unrestricted: str,
    risk: str,
    pinned: Pinned = "always",
) -> Field[NitroClaims, Any]:
    """A register that must hold an accepted value.

    Zeros say nothing: the image has no signer, the instance no role. So they match no list, and
    are not pinned.
    """

    def have(claims: NitroClaims) -> str:
        return claims.pcrs.get(index, b"").hex()

    def says_something(value: str) -> bool:
        return bool(value.strip("0"))

    def what(value: str, values: Sequence[str], _: NitroClaims) -> str:
        seen = value or "not locked"
        return f"PCR{index} is {seen}, which is none of the {len(values)} accepted"

    def pin(claims: NitroClaims, choices: PinChoices) -> list[str] | Unrestricted:
        value = have(claims)
        usable = says_something(value) and len(value) == 2 * PCR_SIZE
        return [value] if usable and is_pinned(pinned, choices) else "any"

    return one_of(
        f"pcr{index}",
        entry=hex_entry(PCR_SIZE),
        have=have,
        code=code,
        what=what,
        can_match=says_something,
        content=content,
        noun=f"{noun} (PCR{index})",
        unrestricted=unrestricted,
        risk=risk,
        pin=pin,
        baseline=lambda _: "any",
    )


def _too_old(limit: int, claims: NitroClaims, _: str) -> Iterator[Finding]:
    """A negative age is refused too: the clock of one of the two is wrong."""
    if not 0 <= claims.age_ms <= limit * 1000:
        yield finding(
            PolicyCode.EVIDENCE_TOO_OLD,
            f"the document is {claims.age_ms / 1000:.1f} s old; at most {limit} s",
        )


FIELDS: tuple[Field[NitroClaims, Any], ...] = (
    # The register that every document has: always pinned, whatever stands in it.
    replace(
        _register(
            0,
            code=PolicyCode.MEASUREMENT_UNKNOWN,
            content="the enclave image file",
            noun="enclave images",
            unrestricted="Any enclave image is accepted.",
            risk="other software than yours may get the key, as far as pcr8 lets it.",
        ),
        pin=lambda claims, _: [claims.measurement.hex()],
    ),
    _register(
        1,
        code=PolicyCode.MEASUREMENT_UNKNOWN,
        content="kernel and boot ramdisk",
        noun="kernels and boot ramdisks",
        unrestricted="Any kernel and boot ramdisk is accepted.",
        risk="another kernel may run below your application, as far as pcr0 lets it.",
    ),
    _register(
        2,
        code=PolicyCode.MEASUREMENT_UNKNOWN,
        content="application",
        noun="applications",
        unrestricted="Any application is accepted.",
        risk="another application may run on your kernel, as far as pcr0 lets it.",
    ),
    _register(
        3,
        code=PolicyCode.ROLE_NOT_ALLOWED,
        content="SHA-384 of 48 zeros and the ARN of the parent instance's IAM role",
        noun="IAM roles of the parent instance",
        unrestricted="The parent instance may have any IAM role.",
        risk="whoever may start instances in any account can start this enclave.",
        pinned="machine",
    ),
    _register(
        8,
        code=PolicyCode.IMAGE_SIGNER_UNKNOWN,
        content="the certificate that signed the image",
        noun="signers of the image",
        unrestricted="The image may be signed by anybody, or by nobody.",
        risk="who released the image is not checked; pcr0 alone says what runs.",
    ),
    _register(
        16,
        code=PolicyCode.HOST_DATA_UNKNOWN,
        content="accepted runtime configurations, as the register holds them",
        noun="runtime configurations",
        unrestricted="Any runtime configuration is accepted that meets the rules below.",
        risk="the operator may change placement and egress as far as the other rules let them.",
        pinned="config",
    ),
    one_of(
        "instances",
        entry=WORDS,
        have=lambda claims: claims.instance.decode("ascii", "replace"),
        code=PolicyCode.INSTANCE_NOT_ALLOWED,
        what=lambda have, values, _: f"parent instance {shown(have)}; accepted: {listing(values)}",
        fix=lambda have: (
            f"Run on an enrolled instance, or add {shown(have)} to instances after checking whose"
            " it is."
        ),
        content="ids of parent instances, `i-…`",
        noun="parent instances",
        unrestricted="Any parent instance is accepted.",
        risk="the enclave may run in anybody's AWS account.",
        pinned="machine",
    ),
    Field(
        name="document_max_age_s",
        type="1 … 10800",
        content="age of the attestation document",
        required="The document must have been made at most {} s ago.".format,
        check=typed,
        pin=lambda _claims, _choices: PINNED_MAX_AGE_S,
        baseline=lambda _: PINNED_MAX_AGE_S,
        compare=_too_old,
    ),
    revocation_known(
        what="the regional and zonal certificates were not checked against CRLs",
        risk="an authority that AWS has revoked passes until its certificate expires, days later.",
        content="AWS's own procedure uses no lists",
        # For the same reason the baseline asks for none.
        baseline=lambda _: "any",
    ),
)
