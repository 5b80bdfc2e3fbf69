"""Codes of files that hold no evidence, or not all of it."""

from __future__ import annotations

from regalia.core.errors import Code


class InspectCode(Code):
    """Files that are well-formed and no evidence."""

    TOKEN_NO_EVIDENCE = (
        "A token says what somebody else concluded, and not what the hardware signed.",
        "Verify the token with its issuer's key; give here the evidence that it was made from.",
    )
    EVIDENCE_INCOMPLETE = (
        "A part of evidence, taken alone, does not show that it is fresh, nor who made it.",
        "Give the whole evidence, as the message names it; a part can be inspected.",
    )
    ENDORSEMENTS_NO_EVIDENCE = (
        "Endorsements say what is genuine or known to be good, and nothing of any machine's state.",
        "Give the evidence, and this file beside it with --endorsement.",
    )
    EVIDENCE_OF_SEVERAL = (
        "Which of several machines an answer is about would be a guess.",
        "Give each machine's evidence in a file of its own.",
    )
