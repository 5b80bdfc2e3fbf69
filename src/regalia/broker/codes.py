"""Reason codes of the broker."""

from __future__ import annotations

from regalia.core.errors import Code


class BrokerCode(Code):
    """Refusals of the broker, besides those of verifier, policy, log and key store."""

    MODEL_UNKNOWN = (
        "This broker holds no key for that model.",
        "Check the model id, and that the model is in this broker's configuration.",
    )
    CHALLENGE_UNKNOWN = (
        "Evidence over a challenge that was not issued here proves no freshness.",
        "Ask this broker for a challenge, and answer it at once.",
    )
    CHALLENGE_EXPIRED = (
        "Evidence over an old challenge may describe a machine that has changed since.",
        "Ask for a new challenge, and answer it before it expires.",
    )
    CHALLENGE_REUSED = (
        "A challenge is good for one request: the second one may be a replay of the first.",
        "Ask for a new challenge. If you did not send the first request, somebody else did.",
    )
    REQUEST_MISMATCH = (
        "A challenge is issued for one model and one policy; evidence is bound to both.",
        "Ask with the model and the policy that the challenge was issued for.",
    )
    POLICY_CHANGED = (
        "The policy was replaced after the challenge was issued.",
        "Ask for a new challenge; it names the current policy.",
    )
    MODEL_ROLLBACK = (
        "An older version may be one that its owner withdrew.",
        "Fetch the current sealed model.",
    )
    MODEL_VERSION_MISMATCH = (
        "The broker holds the key of another sealing than the one that the runtime found.",
        "Give runtime and broker the same sealed model.",
    )
    POLICY_ROLLBACK = (
        "An older policy may accept what its owner no longer accepts.",
        "Give the broker the current policy.",
    )
    POLICY_VERSION_REUSED = (
        "Two policies of one model and version cannot be told apart by those who look at the log.",
        "Raise the policy's version, and sign it again.",
    )
    POLICY_OTHER_MODEL = (
        "The policy is for another model than the one it stands beside in the configuration.",
        "Name the policy of this model.",
    )
    POLICY_OTHER_LOG = (
        "Runtimes under this policy trust another log, so they would refuse every key.",
        "Use the log that the policy names, or have the policy changed.",
    )
    SIGNATURES_CLASSICAL = (
        "The policy wants signatures that outlast quantum computers, of everybody who signs.",
        (
            "Make keys with `regalia keygen sign --algorithm ml-dsa-65-ed25519` (`keygen log` for "
            "the log), sign again with them, and name them in the configuration."
        ),
    )
    WRAP_KEY_MALFORMED = (
        "A key store would wrap the model key to this key, so it must be one that can be used.",
        "Send an RSA-3072 SubjectPublicKeyInfo, DER, with the exponent 65537.",
    )
    AUDIENCE_MISMATCH = (
        "The runtime trusts another log, so it would refuse a release that stands in this one.",
        "Give the runtime the log key of the broker that it asks.",
    )
    ADAPTER_OTHER_BASE = (
        "An adapter belongs to the model that its owner bound it to, and to no other.",
        "Measure the runtime for the adapter's own base, or seal the adapter for this model.",
    )
    LEASE_UNKNOWN = (
        "The lease has ended, or belongs to another attester or model.",
        "Ask again without a lease id, for a new lease.",
    )
    APPROVAL_INVALID = (
        "An approval counts only with an approver's own signature over this policy and model.",
        "Ask the approver to sign again: `regalia broker approve`.",
    )
    WRAP_UNKNOWN = (
        "The model key was wrapped by another kind of key store.",
        "Configure the key store that the model was sealed with.",
    )
    STATE_UNAVAILABLE = (
        "Used challenges, leases and version floors must be kept, or they protect nothing.",
        "Make the broker's database available again (disk space, permissions, server).",
    )
    STATE_LOST = (
        "Leases and version floors protect nothing if they can be lost; the log holds decisions.",
        (
            "Put the newest copy of the state back. If it is gone for good: `regalia broker recover"
            " --accept state` rebuilds leases and floors from the log, and says so in the log."
        ),
    )
    STATE_BEHIND_LOG = (
        (
            "The log holds decisions that this state does not know: it is an older copy, which"
            " could admit more holders than allowed, or a withdrawn version."
        ),
        (
            "Put the newest copy of the state back. If it is gone for good: `regalia broker recover"
            " --accept state` rebuilds leases and floors from the log, and says so in the log."
        ),
    )
    LOG_BEHIND_STATE = (
        "Decisions that were made are missing from the log: it was lost, or is an older copy.",
        (
            "Put the newest copy of the log back. If it is gone for good: `regalia broker recover"
            " --accept log` goes on with this one and says so in it. Auditors who have seen a later"
            " checkpoint will still call it forked."
        ),
    )
    NOTHING_TO_RECOVER = (
        "Accepting a loss that did not happen would hide the next one.",
        "Start the broker as it is.",
    )
    CLOCK_WENT_BACK = (
        "With an earlier time, leases, approvals and collateral that have ended hold again.",
        (
            "Set the clock right. If it had run ahead and is right now: `regalia broker recover"
            " --accept clock`."
        ),
    )
    LEASE_LAPSED = (
        "A place that is not confirmed in time may have been given to somebody else.",
        "Ask again; if it repeats, look at what makes the log's database slow.",
    )
    PEER_LIMITED = (
        "Every refusal costs work and may cost a line in the log, so each address has a number.",
        "Find out why the requests before were refused, and ask again in a minute.",
    )
    BROKER_BUSY = (
        "The number of requests in progress is bounded, so that nobody can exhaust the broker.",
        "Try again in a few seconds.",
    )
    REQUEST_TIMEOUT = (
        "A request that trickles in would hold a place that others need.",
        "Send the request in one go.",
    )
    NOT_FOUND = (
        "There is nothing at this address.",
        "Check the path; docs/spec/release-exchange.md lists all of them.",
    )
    METHOD_NOT_ALLOWED = (
        "This address answers to another method.",
        "Use the method that docs/spec/release-exchange.md names.",
    )
    INTERNAL_ERROR = (
        "The broker met an error of its own; no key was released.",
        "Report it together with the broker's log.",
    )
    HARDENING_REFUSED = (
        "A core dump of the broker could hold a model key.",
        "Run the broker where the kernel lets it switch core dumps off.",
    )
