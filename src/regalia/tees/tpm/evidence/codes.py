"""Codes of refusals that only TPMs know. ``AttestCode`` has those that all TEEs share."""

from __future__ import annotations

from regalia.core.errors import Code


class TpmCode(Code):
    """A quote, its key, or the key's enrolment is not what it should be."""

    AK_UNBOUND = (
        (
            "Anybody can make a key and sign a quote with it; only a key that an EK certificate, "
            "an AK certificate or a TEE's report vouches for lives in a TPM."
        ),
        "Enrol the machine's AK with `regalia attest enroll`, or add its AK certificate's root.",
    )
    AK_NOT_RESTRICTED = (
        (
            "Only a restricted signing key that never leaves its TPM refuses to sign a quote that "
            "somebody made up outside."
        ),
        "Make the AK restricted, sign, fixedTPM, fixedParent, sensitiveDataOrigin, not decrypt.",
    )
    AK_SCHEME_MISMATCH = (
        "The AK is tied to one scheme and one hash; another one is not the TPM's doing.",
        "Quote with the AK's own scheme, as TPM2_Quote does for TPM_ALG_NULL.",
    )
    TPM_WEAK_HASH = (
        "Collisions of SHA-1 can be bought, so it identifies neither a boot nor a key.",
        "Use the SHA-256 or SHA-384 bank, and an AK whose scheme and name use SHA-256 or longer.",
    )
    QUOTE_SELECTION = (
        "A register that is left out of a quote could have any value.",
        "Quote exactly the registers that the message names, in one SHA-256 or SHA-384 bank.",
    )
    QUOTE_PCR_MISMATCH = (
        "The register values are not those that the TPM signed, so they are somebody's invention.",
        "Send the values as TPM2_PCR_Read returned them at the moment of the quote.",
    )
    TPM_RESET_COUNT = (
        "A TPM counts its resets upwards, so an older count is another TPM or a cleared one.",
        "Enrol the machine again if its TPM was cleared on purpose.",
    )
    EK_UNSUITABLE = (
        "A certificate that is not for a TPM's endorsement key does not vouch for a TPM.",
        (
            "Send the EK certificate from the TPM's NV index (0x01c00002 or 0x01c0000a), as the "
            "TCG EK Credential Profile defines it."
        ),
    )
    CREDENTIAL_REJECTED = (
        (
            "Only the TPM that holds both the EK and the AK can open the challenge, so the AK "
            "is not shown to live beside the EK."
        ),
        "Run request, challenge, activate and finish again, on the same machine and in order.",
    )
    ENROLMENT_MISMATCH = (
        "An enrolment vouches for one AK of one TPM only.",
        "Use the enrolment document of this machine, or enrol its AK.",
    )
