"""What a newcomer is told before the checks: what this kind of evidence is, and is not."""

from __future__ import annotations

GENERAL = (
    "Evidence is a statement about a machine that a key inside the machine signed. Three questions"
    " decide what it is worth. Is it genuine: does the vendor's root vouch for that key? Is it"
    " fresh: was it made for your challenge, or recorded earlier? Is it acceptable: is what it says"
    " what your policy demands? Each check below answers a part of one of them; the first check of"
    " the vendor's that fails ends the appraisal, while all rules of a policy are always looked at."
)

STANDING = (
    "Below each check: what was seen, what was wanted, and what the check protects from. No"
    " evidence shows who stands beside the machine: a probe on the memory bus, or a machine in the"
    " attacker's own hands, is answered by lists of machines whose place you know."
)
