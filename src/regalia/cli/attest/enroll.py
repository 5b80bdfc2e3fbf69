"""``regalia attest enroll``: show once that a machine's attestation key lives in a genuine TPM."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import click

from regalia.cli.new_files import warn_if_readable, write_together
from regalia.cli.options import FILE, file_option, json_option, option, together
from regalia.cli.output import show_columns, show_json
from regalia.host.localfs import os_errors, read_file, read_private_file, write_new

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.tees.tpm.evidence import Authorities

_DOCUMENT_MAX = 128 * 1024  # bytes
_CERTIFICATES_MAX = 1 << 20  # bytes of one file

_out = file_option("--out FILE", "Write it there.", required=True)


@click.group()
def enroll() -> None:
    """Let a verifier learn a machine's TPM, in four steps.

    \b
    On the machine:   regalia attest enroll request  --out REQUEST
    On the verifier:  regalia attest enroll challenge REQUEST --ek-root CA --state STATE --out CH
    On the machine:   regalia attest enroll activate  CH --out ANSWER
    On the verifier:  regalia attest enroll finish    ANSWER --ek-root CA --state STATE --out DOC

    Only the TPM that holds both the endorsement key (EK) that its maker certified and the
    attestation key (AK) can open the challenge. DOC goes into the verifier's signed collateral.
    """  # noqa: D301 - click's own mark, which keeps the lines below it


_tpm_options = together(
    option(
        "--tcti TCTI",
        "Where the TPM is, as the TPM Software Stack writes it.",
        default="device:/dev/tpmrm0",
    ),
    option(
        "--ak [ecdsa-p256|rsa-2048]",
        "Kind of attestation key; the runtime's configuration must name the same.",
        default="ecdsa-p256",
    ),
)
_trust_options = together(
    file_option(
        "--ek-root FILE...",
        "A TPM maker's root certificate, PEM or DER.",
        into="ek_roots",
        required=True,
    ),
    file_option(
        "--endorsement FILE...",
        "Authorities between root and EK certificate, and CRLs.",
        into="endorsements",
    ),
    option(
        "--revocation [required|any]",
        "any: the EK certificate may be unchecked against a revocation list.",
        default="required",
    ),
)


@enroll.command("request")
@_tpm_options
@file_option(
    "--certificate FILE",
    "The EK certificate (DER), then its issuers, in place of those that the TPM holds.",
    into="files",
    multiple=True,
)
@_out
@json_option
def request(*, tcti: str, ak: str, files: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """On the machine: write down its keys and certificates."""
    from regalia.tees.tpm.device import TpmDevice
    from regalia.tees.tpm.evidence.enrol_steps import EnrolmentRequest
    from regalia.tees.tpm.key_templates import AK_TEMPLATES

    given = tuple(read_file(path, limit=_CERTIFICATES_MAX) for path in files)
    with TpmDevice.open(tcti) as tpm:
        ek = tpm.ek()
        public = tpm.attestation_key(AK_TEMPLATES[ak])
    made = EnrolmentRequest(public.encode(), ek.public, given or ek.certificates)
    write_new(out, made.encode())
    _show({"request": str(out), "ak_name": public.name.hex()}, as_json=as_json)


@enroll.command("challenge")
@click.argument("request", type=FILE)
@_trust_options
@file_option("--state FILE", "Keep the secret there (mode 600) until `finish`.", required=True)
@_out
@json_option
def challenge(*, request: Path, state: Path, out: Path, as_json: bool, **trust: Any) -> None:  # noqa: ANN401 - of _trust_options
    """On the verifier: check the EK certificate, and make the challenge for REQUEST."""
    from regalia.tees.tpm.evidence import begin_enrolment
    from regalia.tees.tpm.evidence.enrol_steps import SECRET_SIZE, PendingEnrolment, parse_request

    data = read_file(request, limit=_DOCUMENT_MAX)
    secret = secrets.token_bytes(SECRET_SIZE)
    made = begin_enrolment(parse_request(data), authorities=_authorities(**trust), secret=secret)
    pending = PendingEnrolment(secret, data).encode()
    write_together((state, pending, 0o600), (out, made.encode(), 0o644))
    warn_if_readable(state)
    _show({"challenge": str(out), "state": str(state)}, as_json=as_json)


@enroll.command("activate")
@click.argument("challenge", type=FILE)
@_tpm_options
@_out
@json_option
def activate(*, challenge: Path, tcti: str, ak: str, out: Path, as_json: bool) -> None:
    """On the machine: let its TPM open CHALLENGE, and quote over what was in it."""
    from regalia.tees.tpm.device import TpmDevice
    from regalia.tees.tpm.evidence.enrol_steps import answer_data, parse_challenge
    from regalia.tees.tpm.key_templates import AK_TEMPLATES
    from regalia.tees.tpm.recording import BANK

    credential = parse_challenge(read_file(challenge, limit=_DOCUMENT_MAX))
    template = AK_TEMPLATES[ak]
    with TpmDevice.open(tcti) as tpm:
        secret = tpm.activate(tpm.ek(), template, credential.id_object, credential.encrypted_secret)
        quote = tpm.quote(template, answer_data(secret), BANK)
    write_new(out, quote.encode())
    _show({"answer": str(out)}, as_json=as_json)


@enroll.command("finish")
@click.argument("answer", type=FILE)
@_trust_options
@file_option(
    "--state FILE", "What `challenge` kept; removed when the enrolment is written.", required=True
)
@_out
@json_option
def finish(*, answer: Path, state: Path, out: Path, as_json: bool, **trust: Any) -> None:  # noqa: ANN401 - of _trust_options
    """On the verifier: check ANSWER, and write the enrolment for the signed collateral."""
    from regalia.tees.tpm.evidence import finish_enrolment
    from regalia.tees.tpm.evidence.document import parse_tpm_quote
    from regalia.tees.tpm.evidence.enrol_steps import parse_pending, parse_request

    pending = parse_pending(read_private_file(state, limit=2 * _DOCUMENT_MAX))
    made = finish_enrolment(
        parse_request(pending.request),
        parse_tpm_quote(read_file(answer, limit=_DOCUMENT_MAX)),
        authorities=_authorities(**trust),
        secret=pending.secret,
    )
    write_new(out, made.encode())
    with os_errors(state):
        state.unlink()  # the secret is used up
    _show(
        {
            "enrolment": str(out),
            "ak_name": made.ak_name.hex(),
            "manufacturer": made.model.manufacturer,
            "model": made.model.model,
            "hardware": made.hardware.value,
            "reset_count": made.reset_count,
        },
        as_json=as_json,
    )


def _authorities(
    *, ek_roots: tuple[Path, ...], endorsements: tuple[Path, ...], revocation: str
) -> Authorities:
    """The roots and lists of the command line, at this moment."""
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
    from regalia.appraisal.pki import Cache
    from regalia.host.clock import system_clock
    from regalia.tees.tpm.evidence import Authorities
    from regalia.verifier.collateral import parse_collateral, parse_roots

    roots = [
        root
        for path in ek_roots
        for root in parse_roots(read_file(path, limit=_CERTIFICATES_MAX), what=str(path))
    ]
    given = parse_collateral(
        {str(path): read_file(path, limit=_CERTIFICATES_MAX) for path in endorsements}
    )
    return Authorities(
        roots=tuple(roots),
        intermediates=given.certificates,
        crls=given.crls,
        at=AppraisalContext(
            now=system_clock(),
            rule=CollateralRule(RevocationRule(revocation), NO_GRACE),
            cache=Cache(),
        ),
    )


def _show(result: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        show_json(result)
    else:
        show_columns(result)
