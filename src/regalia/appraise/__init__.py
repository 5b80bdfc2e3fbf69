"""Where evidence meets policy: the one place in which ``verifier`` and ``policy`` are both called.

    evidence -> claims: genuine, fresh, and made for this purpose?      ``verifier``
    claims -> verdict: acceptable under the policy?                     ``policy``

``exchange`` is for a release and for a client's connection, ``recorded`` for files of evidence
that somebody looks at. Nothing here reads a file, writes anything, or knows a key.
"""
