"""Codes of refusals by verifiers. They are shared by all TEEs; docs/errors.md lists them.

``MALFORMED`` and ``TOO_LARGE`` (core), ``UNSUPPORTED_VERSION``, ``RESERVED_BIT_SET`` and
``TRAILING_DATA`` (formats) and ``SIGNATURE_INVALID`` (crypto) are used here too.
"""

from __future__ import annotations

from regalia.core.errors import Code


class AttestCode(Code):
    """Evidence is not genuine, not fresh, or bound to something else."""

    ROOT_UNTRUSTED = (
        "The evidence ends in a root that is not pinned, so anybody could have made it.",
        (
            "Use hardware of a supported vendor and product; a simulated platform needs its own "
            "dangerous_ anchor."
        ),
    )
    CHAIN_INVALID = (
        "The certificates do not lead from the pinned root to the key that signed the report.",
        "Fetch the platform's certificates again and send the leaf of this very chip and TCB.",
    )
    CERT_EXPIRED = (
        "Nobody vouches any longer for the key in this certificate.",
        "Fetch a current certificate for the platform; check the verifier's clock.",
    )
    CERT_NOT_YET_VALID = (
        "A certificate from the future points at a wrong clock or at a forgery.",
        "Check the clocks of the verifier and of the machine that issued the certificate.",
    )
    CERT_REVOKED = (
        "The vendor withdrew its trust in this key; evidence signed by it proves nothing.",
        "Stop using this platform until the vendor has issued it new certificates.",
    )
    CRL_MISSING = (
        "Without a revocation list a withdrawn key would pass unnoticed.",
        (
            "Add the vendor's current CRL for this product to the collateral, or write "
            "revocation = any in the policy."
        ),
    )
    CRL_STALE = (
        "A revocation list out of its dates does not show recent revocations.",
        "Fetch the vendor's current CRL into the collateral; check the verifier's clock.",
    )
    CRL_SIG_INVALID = (
        "A revocation list that the vendor's root did not sign could hide a revocation.",
        "Replace the CRL in the collateral by one fetched from the vendor.",
    )
    COLLATERAL_MISSING = (
        "The chain cannot be followed without every one of its certificates.",
        "Add the named certificate to the evidence or to the verifier's collateral.",
    )
    LEAF_BINDING_MISMATCH = (
        (
            "The certificate is for another chip, product or firmware level than the report, so a "
            "key of a healthier platform could vouch for a weaker one."
        ),
        "Send the certificate issued for this chip at its reported TCB, with chip masking off.",
    )
    NONCE_MISMATCH = (
        (
            "The report was made for another challenge, key, model, policy or device set: it may "
            "be a replay, or come from somebody else's machine."
        ),
        "Ask for a new challenge and collect new evidence for it and for your own keys.",
    )
    NONCE_WELL_KNOWN = (
        "Anybody can have a report over a constant, so it proves no freshness.",
        "Derive the expected report data from a random challenge of 32 bytes.",
    )
