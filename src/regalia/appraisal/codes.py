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
        (
            "The verdict rests on every certificate of the chain, and on what the vendor states of "
            "this platform's security level."
        ),
        (
            "Give what the message names, beside the evidence or in the verifier's collateral; "
            "regalia collateral fetch gets a vendor's documents for the evidence at hand."
        ),
    )
    COLLATERAL_STALE = (
        "Collateral out of its dates does not show recent revocations and security fixes.",
        (
            "Import a current bundle, or fetch the document again; check the verifier's clock. A "
            "site may accept late collateral for some days: dangerous_collateral_grace_days."
        ),
    )
    COLLATERAL_SIG_INVALID = (
        "Collateral that its expected issuer did not sign could hide a revocation.",
        "Fetch it again from its issuer, and check which keys are expected to sign it.",
    )
    COLLATERAL_ROLLBACK = (
        "Older collateral would bring back what has been revoked or found weak since.",
        "Use the newest bundle; whoever makes bundles raises the serial number each time.",
    )
    DEVICE_DENIED = (
        "The site's own deny-list, signed with its collateral, names this device or certificate.",
        "Take the device out of service; if the entry is wrong, sign a new bundle without it.",
    )
    LEAF_BINDING_MISMATCH = (
        (
            "What came beside the report is for another platform, product, key or firmware level, "
            "so a healthier one could vouch for a weaker one."
        ),
        (
            "Give what was issued for this very platform: AMD's certificate of this chip at its "
            "reported TCB, with chip masking off; Intel's TCB info of the named FMSPC; a TPM's or "
            "a device's own certificate."
        ),
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
    EVENTLOG_MISMATCH = (
        (
            "The event log does not lead to the values that the hardware signed, or an event says "
            "something else than what was measured: nothing in it can be believed."
        ),
        "Send the log of this very boot, whole and as the firmware and the kernel give it.",
    )
    EVENTLOG_UNKNOWN_EVENT = (
        "An event of unknown meaning could be software that nobody vetted.",
        (
            "Find out what measures the named event; accept unknown events in the policy, or "
            "update Regalia."
        ),
    )
    COMPOSITE_MISMATCH = (
        (
            "CPU and devices do not belong to one machine: a device counted twice, one of another "
            "machine, or simulated beside genuine hardware."
        ),
        "Collect evidence again on the machine itself, from every device, each exactly once.",
    )
