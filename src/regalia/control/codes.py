"""Reason codes of statements, and of releases that they forbid."""

from __future__ import annotations

from regalia.core.errors import Code


class StatementCode(Code):
    """Why a statement is not accepted."""

    CHARTER_UNTRUSTED = (
        "The first statement says whose signatures count; another one has other owners.",
        "Compare the digest with the one that the tenant's owners gave you.",
    )
    CHARTER_EXPECTED = (
        "Until there is a charter, nobody's signature counts for this tenant.",
        "Begin with statement 1, the charter that all its owners have signed.",
    )
    STATEMENT_OTHER_TENANT = (
        "Each tenant's owners decide about their own models, and about nothing else.",
        "Give the statement to the chain of the tenant that it names.",
    )
    STATEMENT_STALE = (
        "Another statement was accepted in its place, such as a stop; it was signed without it.",
        "Propose it again on top of the newest statement, and have it signed again.",
    )
    STATEMENT_GAP = (
        "Statements before it are missing, and one of them may be a revocation.",
        "Fetch the missing statements first; `regalia admin status` names the newest.",
    )
    STATEMENT_OTHER_PREVIOUS = (
        "It continues another history than the one that is known here.",
        "Compare both chains, statement by statement, before anybody signs anything.",
    )
    STATEMENT_EXPIRED = (
        "Signatures that were given long ago may no longer be what their owners want.",
        "Propose it again, and have it signed again.",
    )
    STATEMENT_TOO_FEW_SIGNATURES = (
        "No owner decides alone about what makes more available.",
        "Have the owners sign whom the message names: `regalia admin sign`.",
    )
    STATEMENT_LOCKED = (
        "The charter lets such an act wait, so that owners have time to object to it.",
        "Propose it again with a later --not-before.",
    )
    STATEMENT_NOT_IN_THIS_STATE = (
        "Life cycles have no way back, and an act must fit what was decided before.",
        "Look at what holds now: `regalia admin show`.",
    )
    STATEMENT_TOO_MANY_SCHEDULED = (
        "What waits for its time is bounded, so that nobody can exhaust a broker.",
        "Wait until some of it has taken effect.",
    )


class ControlCode(Code):
    """Why the statements of a tenant forbid a release."""

    EMERGENCY_STOPPED = (
        "An owner has stopped releases, which each of them may do alone.",
        "Ask the owners; `regalia admin propose resume` needs as many of them as other acts.",
    )
    TENANT_WITHOUT_CHARTER = (
        "Nothing is released for a tenant whose owners have not said who decides.",
        "Give the broker the tenant's statement 1: `regalia admin submit`.",
    )
    MODEL_UNREGISTERED = (
        "The owners have not registered this version of the model.",
        "Have it registered: `regalia admin propose register-model`.",
    )
    MODEL_VERSION_STAGED = (
        "A version that is staged is not released yet.",
        "Have it promoted: `regalia admin propose model-version`.",
    )
    MODEL_VERSION_RETIRED = (
        "The owners let this version end at a date that has passed.",
        "Use the version that is current.",
    )
    MODEL_VERSION_REVOKED = (
        "The owners have withdrawn this version for ever.",
        "Use the version that is current.",
    )
    MANIFEST_UNREGISTERED = (
        "The owners registered another sealing of this version than the one that is served here.",
        "Serve the registered manifest, or have this one registered.",
    )
    POLICY_UNPUBLISHED = (
        "Only the policy that the owners published decides about releases.",
        "Serve that policy, or have this one published: `regalia admin propose publish-policy`.",
    )
    MEASUREMENT_UNLISTED = (
        "The owners have not named this image, and what is not named is not accepted.",
        "Have it staged and promoted: `regalia admin propose reference-value`.",
    )
    MEASUREMENT_STAGED = (
        "An image that is staged gets no key yet.",
        "Have it promoted: `regalia admin propose reference-value`.",
    )
    MEASUREMENT_RETIRED = (
        "The owners let this image end at a date that has passed.",
        "Start the image that is current.",
    )
    MEASUREMENT_REVOKED = (
        "The owners no longer trust this image.",
        "Start the image that is current.",
    )
    CHIP_REVOKED = (
        "The owners no longer trust this machine or device.",
        "Use another machine.",
    )
    SIGNER_REVOKED = (
        "The owners no longer trust the key that signed the sealed model.",
        "Seal or sign the model again with a key that they trust.",
    )
    RUNTIME_REVOKED = (
        "The owners no longer trust this running process.",
        "Find out why before you start another one.",
    )
    KEK_ROTATED = (
        "The model key is wrapped by a key-encryption key that the owners have replaced.",
        "Wrap the model key with the new one, and have that manifest registered.",
    )
    TERM_ENDED = (
        "The owners released this model up to a date that has passed.",
        "Ask the owners for new terms.",
    )
    TERM_SITE = (
        "The owners released this model to certain sites only.",
        "Run it at a site of its terms, or ask the owners for others.",
    )
    TERM_JURISDICTION = (
        "The owners released this model to certain jurisdictions only.",
        "Run it in a region of its terms, or ask the owners for others.",
    )
    TERM_ROLE = (
        "The owners released this model to operators of certain roles only.",
        "Run it with an operator of its terms, or ask the owners for others.",
    )
    TERM_DERIVATIVES = (
        "The owners do not permit what this runtime makes of the model.",
        "Serve the model without adapters, or ask the owners for other terms.",
    )
