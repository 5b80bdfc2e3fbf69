"""What became of one attack, on the unprotected side and on Regalia's."""

from __future__ import annotations

from dataclasses import asdict, dataclass

STOLEN = "stolen"
REFUSED = "refused"
NOT_PROTECTED = "not protected: simulated TEE"
FAILED = "failed"  # a control that did not succeed, or a theft that did


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an attack: how it ended, and what was seen."""

    result: str
    detail: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the demo's table."""

    number: int
    id: str
    attack: str
    control: str
    control_detail: str
    regalia: str
    regalia_detail: str
    code: str
    seconds: float  # both sides together

    @property
    def as_expected(self) -> bool:
        """The control fell, and Regalia refused (or says plainly that it cannot here)."""
        return self.control == STOLEN and self.regalia in {REFUSED, NOT_PROTECTED}

    def as_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {**asdict(self), "as_expected": self.as_expected}


def stolen_if(condition: bool, detail: str) -> Side:  # noqa: FBT001 - reads as a sentence
    """The control side: it means something only if the attack works there."""
    return Side(STOLEN if condition else FAILED, detail)


def refused_with(code: str | None, detail: str) -> Side:
    """Regalia's side: refused with a code, or not refused at all."""
    return Side(REFUSED, detail, code) if code else Side(FAILED, detail)
