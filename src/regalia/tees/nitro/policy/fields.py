"""The fields of the Nitro section, in the order of its struct."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import (
    CONFIG_RISK,
    OneOf,
    any_config,
    is_pinned,
    revocation_known,
    seen,
)
from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field, left_open
from regalia.appraisal.policy_words import WORDS, hex_entry
from regalia.tees.nitro.claims import NitroClaims

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regalia.appraisal.field_kinds import Pinned
    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_doc import Unrestricted
    from regalia.appraisal.policy_field import PinChoices

PCR_SIZE = 48  # bytes
PINNED_MAX_AGE_S = 300  # AWS's documents are made on demand


def _register(index: int, code: PolicyCode, pinned: Pinned = "always") -> OneOf[NitroClaims]:
    """A register that must hold an accepted value.

    Zeros say nothing: the image has no signer, the instance no role. So they match no list, and
    are not pinned.
    """

    def have(claims: NitroClaims) -> str:
        return claims.pcrs.get(index, b"").hex()

    def says_something(value: str) -> bool:
        return bool(value.strip("0"))

    def what(value: str, values: Sequence[str], _: NitroClaims) -> str:
        register = value or "not locked"
        return f"PCR{index} is {register}, which is none of the {len(values)} accepted"

    def pin(claims: NitroClaims, choices: PinChoices) -> list[str] | Unrestricted:
        value = have(claims)
        usable = says_something(value) and len(value) == 2 * PCR_SIZE
        return [value] if usable and is_pinned(pinned, choices) else "any"

    return OneOf(
        f"pcr{index}",
        hex_entry(PCR_SIZE),
        have,
        code,
        what,
        can_match=says_something,
        pin=pin,
        baseline=left_open,
    )


def _too_old(limit: int, claims: NitroClaims, _: str) -> Iterator[Finding]:
    """A negative age is refused too: the clock of one of the two is wrong."""
    if not 0 <= claims.age_ms <= limit * 1000:
        yield finding(
            PolicyCode.EVIDENCE_TOO_OLD,
            f"the document is {claims.age_ms / 1000:.1f} s old; at most {limit} s",
        )


IMAGE = _register(0, PolicyCode.MEASUREMENT_UNKNOWN).words(
    "the enclave image file",
    "enclave images (PCR0)",
    "Any enclave image is accepted.",
    "other software than yours may get the key, as far as pcr8 lets it.",
)

FIELDS: tuple[Field[NitroClaims, Any], ...] = (
    # The register that every document has: always pinned, whatever stands in it.
    replace(IMAGE, pin=lambda claims, _: [claims.measurement.hex()]),
    _register(1, PolicyCode.MEASUREMENT_UNKNOWN).words(
        "kernel and boot ramdisk",
        "kernels and boot ramdisks (PCR1)",
        "Any kernel and boot ramdisk is accepted.",
        "another kernel may run below your application, as far as pcr0 lets it.",
    ),
    _register(2, PolicyCode.MEASUREMENT_UNKNOWN).words(
        "application",
        "applications (PCR2)",
        "Any application is accepted.",
        "another application may run on your kernel, as far as pcr0 lets it.",
    ),
    _register(3, PolicyCode.ROLE_NOT_ALLOWED, "machine").words(
        "SHA-384 of 48 zeros and the ARN of the parent instance's IAM role",
        "IAM roles of the parent instance (PCR3)",
        "The parent instance may have any IAM role.",
        "whoever may start instances in any account can start this enclave.",
    ),
    _register(8, PolicyCode.IMAGE_SIGNER_UNKNOWN).words(
        "the certificate that signed the image",
        "signers of the image (PCR8)",
        "The image may be signed by anybody, or by nobody.",
        "who released the image is not checked; pcr0 alone says what runs.",
    ),
    _register(16, PolicyCode.HOST_DATA_UNKNOWN, "config").words(
        "accepted runtime configurations, as the register holds them",
        "runtime configurations (PCR16)",
        any_config(),
        CONFIG_RISK,
    ),
    OneOf[NitroClaims]
    .machines(
        "instances",
        WORDS,
        lambda claims: claims.instance.decode("ascii", "replace"),
        seen("parent instance {}"),
        run="on an enrolled instance",
        check="whose it is",
    )
    .words(
        "ids of parent instances, `i-…`",
        "parent instances",
        "Any parent instance is accepted.",
        "the enclave may run in anybody's AWS account.",
    ),
    Field(
        name="document_max_age_s",
        type="1 … 10800",
        content="age of the attestation document",
        required="The document must have been made at most {} s ago.".format,
        pin=lambda _claims, _choices: PINNED_MAX_AGE_S,
        baseline=lambda _: PINNED_MAX_AGE_S,
        compare=_too_old,
    ),
    revocation_known(
        "the regional and zonal certificates were not checked against CRLs",
        "an authority that AWS has revoked passes until its certificate expires, days later.",
        content="AWS's own procedure uses no lists",
        # For the same reason the baseline asks for none, unless a person does.
        baseline=lambda words: words.revocation if words.revocation_asked else "any",
    ),
)
