"""What a statement does, in plain sentences: what an owner reads before signing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.wire.statement import (
    ALONE,
    Charter,
    ModelVersion,
    PublishPolicy,
    ReferenceValue,
    RegisterModel,
    Resume,
    Revoke,
    Rotate,
    Stop,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.wire.statement import Statement, Terms

_TRANSITIONS = {
    "stage": "is known from then on, and gets no key yet",
    "promote": "gets keys from then on",
    "retire": "gets keys until {until} and then no more",
    "revoke": "gets no key any more, for ever",
}
_SUBJECTS = {
    "measurement": "the image {value}",
    "chip": "the machine or device {value}",
    "signer": "whatever {value} has signed",
    "runtime": "the running process {value}",
    "model-version": "{value}",
}


def sentences(statement: Statement) -> list[str]:
    """Every fact of a statement, in sentences.

    Args:
        statement: whose signatures need not be verified.
    """
    said = _SENTENCES[type(statement.action)](statement.action)
    if isinstance(statement.action, ALONE):
        when = "It takes effect at once, with one owner's signature."
    elif statement.not_before is None:
        when = "It takes effect as soon as enough owners have signed."
    else:
        when = f"It takes effect at {statement.not_before}."
    return [
        f"Statement {statement.sequence} of {statement.tenant}, behind {statement.previous}:",
        *said,
        when,
        f"It was proposed at {statement.time}, and is accepted until {statement.expires}.",
    ]


def _charter(action: Charter) -> list[str]:
    said = [f"From then on {action.threshold} of these {len(action.owners)} owners decide:"]
    said += [f"  {each.name} ({each.role}), {each.fingerprint}" for each in action.owners]
    said += [
        f"A {kind} waits for {seconds} seconds before it takes effect."
        for kind, seconds in sorted(action.delays.items())
    ]
    if not action.delays:
        said.append("Nothing waits: what enough owners sign takes effect at once.")
    return said


def _register(action: RegisterModel) -> list[str]:
    what = f"Version {action.version} of {action.model_id}"
    said = f"{what} is the sealing whose manifest has the digest {action.manifest}."
    return [said, *_terms(action.terms)]


def _terms(terms: Terms) -> list[str]:
    ends = "They have no end" if terms.ends is None else f"They end after {terms.ends}"
    said = [f"Its terms: {ends.lower()}."]
    for names, what in (
        (terms.sites, "sites"),
        (terms.jurisdictions, "jurisdictions"),
        (terms.roles, "roles of operators"),
    ):
        allowed = f"ANY {what}" if names is None else f"these {what}: {', '.join(names)}"
        said.append(f"It may run under {allowed}.")
    derivatives = {
        "none": "Nothing may be derived from it.",
        "adapters": "Adapters may be merged into it.",
        "any": "ANYTHING may be derived from it.",
    }
    return [*said, derivatives[terms.derivatives]]


def _publish(action: PublishPolicy) -> list[str]:
    return [f"{action.model_id} is released under {action.policy_id}, and under no other policy."]


def _reference(action: ReferenceValue) -> list[str]:
    what = _TRANSITIONS[action.transition].format(until=action.until)
    return [f"The image {action.measurement} on {action.tee} {what}."]


def _model_version(action: ModelVersion) -> list[str]:
    what = _TRANSITIONS[action.transition].format(until=action.until)
    return [f"Version {action.version} of {action.model_id} {what}."]


def _rotate(action: Rotate) -> list[str]:
    return [
        f"The key-encryption key {action.new!r} replaces {action.old!r}.",
        f"What {action.old!r} wraps is released no more.",
    ]


def _revoke(action: Revoke) -> list[str]:
    what = _SUBJECTS[action.subject].format(value=action.value)
    return [f"REVOKED for ever: {what}. Whoever holds a key keeps it until their lease ends."]


def _stop(action: Stop) -> list[str]:
    what = "EVERYTHING" if action.model_id is None else action.model_id
    return [f"STOP: no key of {what} is released or renewed until owners resume."]


def _resume(action: Resume) -> list[str]:
    what = "EVERYTHING that is stopped" if action.model_id is None else action.model_id
    return [f"RESUME: {what} is released again."]


_SENTENCES: dict[type, Callable[[Any], list[str]]] = {
    Charter: _charter,
    RegisterModel: _register,
    PublishPolicy: _publish,
    ReferenceValue: _reference,
    ModelVersion: _model_version,
    Rotate: _rotate,
    Revoke: _revoke,
    Stop: _stop,
    Resume: _resume,
}
