"""Write the vectors of what travels in a release, and to a client.

Usage: ``python scripts/make_message_vectors.py [--check]``.

Specs: docs/spec/release-exchange.md, docs/spec/sealed-channel.md, section 3. Every message is what
the product encodes: a member that is added later needs a value in ``message_parts.VALUES`` and a
second run. A long text is written as ``vector_files.short`` does.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

from approval_documents import approvals
from message_parts import (
    CHALLENGE,
    CONFIG,
    CPU,
    GPU,
    HPKE_KEY,
    LEASE_ID,
    MACHINE,
    MODEL_ID,
    PROOF,
    SWITCH,
    TEES,
    WRAP_KEY,
    changed,
    message,
)
from release_answers import release_answers
from release_requests import refused_requests
from vector_files import VECTORS, as_json, fixed, short, write_or_compare

from regalia.appraisal.config_binding import expected_slot
from regalia.broker.leases import holder_of
from regalia.core.codec import b64
from regalia.core.types import KeyFingerprint
from regalia.wire.evidence import (
    ENVELOPE_LIMIT,
    Role,
    device_nonce,
    devices_digest,
)
from regalia.wire.release import (
    ChallengeRequest,
    ChallengeResponse,
    LeaseReturn,
    LeaseReturned,
    Refusal,
    ReleaseRequest,
    ReleaseResponse,
)
from regalia.wire.runtime_config import LIMIT as CONFIG_LIMIT
from regalia.wire.serving import LIMIT as SERVING_LIMIT
from regalia.wire.serving import ServingEvidence, encode_challenge

if TYPE_CHECKING:
    from regalia.appraisal.claims import Claims

FOLDER = VECTORS / "messages"


def exchange() -> dict[str, Any]:
    """The messages of one release, and what is refused of each."""
    request = message(ReleaseRequest)
    return {
        "about": [
            "`refused_release_requests`: what differs from `release_request` with the key of",
            "released-key.json, for a broker that has issued `challenge` for `model_id` and",
            "`policy_id`; the code and status of its answer, and whether the log has a record of",
            "it. A challenge is spent exactly where there is a record.",
            "`release_answers`: what differs from `answer`, or from `request` (`request_members`).",
            "The runtime has the private key of released-key.json and trusts `log_key`.",
            "Long texts and what differs are written as docs/spec/README.md says.",
        ],
        "challenge_request": message(ChallengeRequest),
        "challenge_response": message(ChallengeResponse),
        "release_request": request,
        "release_request_to_renew": message(ReleaseRequest, lease_id=LEASE_ID),
        "release_response": message(ReleaseResponse, lease_id=LEASE_ID),
        "lease_return": message(LeaseReturn, lease_id=LEASE_ID),
        "lease_returned": message(LeaseReturned, lease_id=LEASE_ID),
        "denial": message(Refusal),
        "refusal_without_record": message(Refusal, code="TOO_LARGE", reasons=[], log=None),
        "refused_challenge_requests": {
            "member_unknown": changed(message(ChallengeRequest), extra=1),
            "model_id_no_text_form": changed(message(ChallengeRequest), model_id="llama"),
            "white_space": message(ChallengeRequest) + " ",
        },
        "refused_lease_returns": {
            "lease_upper_case": changed(message(LeaseReturn), lease_id="lease:" + "A" * 32),
            "member_unknown": changed(message(LeaseReturn, lease_id=LEASE_ID), extra=1),
            "token_short": changed(
                message(LeaseReturn, lease_id=LEASE_ID), token=b64(fixed("return token", 31))
            ),
        },
        "refused_release_requests": refused_requests(),
        "release_answers": release_answers(),
    }


def configurations() -> dict[str, Any]:
    """Runtime configurations that are read, and others with the code that each deserves."""
    text = CONFIG.encode().decode()
    place, model = json.loads(text)["placement"], json.loads(text)["model_id"]
    adapter = f"model:{'ad' * 32}"

    def sized(size: int) -> Any:  # noqa: ANN401 - JSON
        empty = len(changed(text, placement=place | {"site": ""}))
        return short(changed(text, placement=place | {"site": "x" * (size - empty)}))

    return {
        "accepted": {
            "no_egress": changed(text, egress=[]),
            "65536_bytes": sized(CONFIG_LIMIT),
            "opens": changed(text, opens=["logit-bias", "logprobs"]),
            "opens_32": changed(text, opens=[f"s{n:02}" for n in range(32)]),
            "opens_long_word": changed(text, opens=["s" * 64]),
            "adapter": changed(text, adapter=adapter),
        },
        "refused": {
            "65537_bytes": ["TOO_LARGE", sized(CONFIG_LIMIT + 1)],
            "format_unknown": ["MALFORMED", changed(text, format="regalia/runtime-config/v2")],
            "member_missing": ["MALFORMED", changed(text, egress=...)],
            "member_unknown": ["MALFORMED", changed(text, broker="https://broker.example")],
            "member_of_placement_missing": ["MALFORMED", changed(text, placement={"site": ""})],
            "egress_is_text": ["MALFORMED", changed(text, egress="store.example:443")],
            "opens_empty": ["MALFORMED", changed(text, opens=[])],
            "opens_33": ["MALFORMED", changed(text, opens=[f"s{n:02}" for n in range(33)])],
            "opens_twice": ["MALFORMED", changed(text, opens=["logprobs", "logprobs"])],
            "opens_unsorted": ["MALFORMED", changed(text, opens=["logprobs", "logit-bias"])],
            "opens_empty_word": ["MALFORMED", changed(text, opens=[""])],
            "opens_65_characters": ["MALFORMED", changed(text, opens=["s" * 65])],
            "opens_upper_case": ["MALFORMED", changed(text, opens=["Logprobs"])],
            "opens_control_character": ["MALFORMED", changed(text, opens=["log\u001bprobs"])],
            "opens_line_end": ["MALFORMED", changed(text, opens=["logprobs\n"])],
            "opens_is_text": ["MALFORMED", changed(text, opens="logprobs")],
            "opens_is_null": ["MALFORMED", changed(text, opens=None)],
            "adapter_is_the_model": ["MALFORMED", changed(text, adapter=model)],
            "adapter_is_no_id": ["MALFORMED", changed(text, adapter="tuned")],
            "adapter_upper_case": ["MALFORMED", changed(text, adapter=adapter.upper())],
            "adapter_is_a_list": ["MALFORMED", changed(text, adapter=[adapter])],
            "adapter_is_null": ["MALFORMED", changed(text, adapter=None)],
            "white_space": ["MALFORMED", text + "\n"],
            "empty": ["MALFORMED", ""],
        },
    }


def envelope_of(size: int) -> Any:  # noqa: ANN401 - JSON
    """An envelope of so many bytes, filled with a log of zeros. Base64 grows by four."""
    for device in ((), (GPU,), (SWITCH,), (GPU, SWITCH)):
        for tee in TEES:
            empty = replace(CPU, tee=tee, devices=device)
            missing = size - len(empty.encode())
            if missing % 4 == 0:
                return short(replace(empty, event_log=bytes(missing // 4 * 3)).encode().decode())
    raise ValueError(f"no envelope has {size} bytes")


def evidence() -> dict[str, Any]:
    """Evidence envelopes and their digests, the runtime configuration, and what is refused."""
    text = CPU.encode().decode()
    device = json.loads(MACHINE.encode())["devices"][0]
    return {
        "accepted": {
            name: {
                "envelope": each.encode().decode(),
                "digest": str(each.digest()),
                "device_evidence": devices_digest(each.devices).raw.hex(),
            }
            for name, each in (
                ("cpu_alone", CPU),
                ("with_devices", MACHINE),
                ("eight_endorsements", replace(CPU, endorsements=(b"\0",) * 8)),
            )
        },
        "largest": envelope_of(ENVELOPE_LIMIT),
        "runtime_config": CONFIG.encode().decode(),
        "runtime_configurations": configurations(),
        "recorded": {str(tee): expected_slot(tee, CONFIG.encode()).hex() for tee in TEES},
        "refused": {
            "format_unknown": ["MALFORMED", changed(text, format="regalia/evidence/v3")],
            "tee_unknown": ["MALFORMED", changed(text, tee="sev")],
            "member_missing": ["MALFORMED", changed(text, event_log=...)],
            "member_unknown": ["MALFORMED", changed(text, extra="")],
            "4_mib_and_a_byte": ["TOO_LARGE", envelope_of(ENVELOPE_LIMIT + 1)],
            "white_space": ["MALFORMED", text.replace(",", ", ", 1)],
            "members_out_of_order": ["MALFORMED", f'{{"tee":"sev-snp",{text[1:-17]}}}'],
            "base64_not_canonical": ["MALFORMED", changed(text, event_log="QR==")],
            "nine_endorsements": ["TOO_LARGE", changed(text, endorsements=["AA=="] * 9)],
            "sixty_five_devices": ["TOO_LARGE", changed(text, devices=[device] * 65)],
            "device_unknown": ["MALFORMED", changed(text, devices=[device | {"kind": "gpu"}])],
            "device_nine_endorsements": [
                "TOO_LARGE",
                changed(text, devices=[device | {"endorsements": ["AA=="] * 9}]),
            ],
        },
    }


def devices() -> dict[str, Any]:
    """Nonces of devices, and the digests that the CPU commits to."""
    return {
        "nonces": [
            {
                "role": role.value,
                "challenge": CHALLENGE.hex(),
                "hpke_public_key": HPKE_KEY.hex(),
                "nonce": device_nonce(role, CHALLENGE, HPKE_KEY).hex(),
            }
            for role in Role
        ],
        "devices": [
            {
                "kind": each.kind.value,
                "report": each.report.hex(),
                "endorsements": [der.hex() for der in each.endorsements],
                "digest": each.digest().raw.hex(),
            }
            for each in (GPU, SWITCH)
        ],
        # Numbers are places in the list above.
        "device_evidence": [
            {"order": order, "digest": devices_digest([(GPU, SWITCH)[n] for n in order]).raw.hex()}
            for order in ([], [0], [0, 1], [1, 0], [0, 0])
        ],
    }


@dataclass(frozen=True, slots=True)
class Holder:
    """The claims that tell a lease's holders apart."""

    instance: bytes
    guest: bytes
    measurement: bytes
    config_binding: bytes


def holders() -> list[dict[str, str]]:
    """Holders of leases: with a guest, without one, and with another key in both cases."""
    out = []
    for guest in (fixed("REPORT_ID"), b""):
        for key in (HPKE_KEY, fixed("another HPKE key", 1216)):
            claims = Holder(fixed("CHIP_ID", 64), guest, fixed("MEASUREMENT", 48), fixed("HOST"))
            out.append(
                {field.name: getattr(claims, field.name).hex() for field in fields(claims)}
                | {"hpke_public_key": key.hex(), "holder": holder_of(cast("Claims", claims), key)}
            )
    return out


def serving() -> dict[str, Any]:
    """A runtime's answer to a client's challenge, with and without a release's proof."""
    values: dict[str, Any] = {
        "evidence": CPU,
        "hpke_public_key": HPKE_KEY,
        "wrap_public_key": WRAP_KEY,
        "model_id": MODEL_ID,
        "model_version": 3,
        "recipient": KeyFingerprint(fixed("recipient")),
    }
    names = [each.name for each in fields(ServingEvidence)]

    def made(**more: Any) -> ServingEvidence:  # noqa: ANN401 - any member
        return ServingEvidence(**{name: (values | more)[name] for name in names})

    text = made(release=PROOF).encode().decode()
    binding = made(release=None).binding(CHALLENGE)
    proof = json.loads(text)["release"]
    forms = {
        "text": b64(b"{}"),
        "list": [proof],
        "empty": {},
        "member_missing": {name: value for name, value in proof.items() if name != "path"},
        "member_unknown": proof | {"size": 42},
        "record_null": proof | {"record": None},
        "index_text": proof | {"index": "41"},
        "path_text": proof | {"path": proof["path"][0]},
        "path_of_numbers": proof | {"path": [0]},
    }

    def sized(size: int) -> dict[str, Any]:
        empty = len(changed(text, release=proof | {"checkpoint": ""}))
        return {"release": proof | {"checkpoint": short("x" * (size - empty))}}

    members: dict[str, tuple[str, dict[str, Any]]] = {
        "format_unknown": ("MALFORMED", {"format": "regalia/serving-evidence/v9"}),
        "format_older": ("MALFORMED", {"format": "regalia/serving-evidence/v1"}),
        "recipient_is_no_key": ("MALFORMED", {"recipient": "sha256:" + "00" * 32}),
        "member_unknown": ("MALFORMED", {"extra": 1}),
        "hpke_key_short": ("MALFORMED", {"hpke_public_key": b64(bytes(1215))}),
        "hpke_key_long": ("MALFORMED", {"hpke_public_key": b64(bytes(1217))}),
        "wrap_key_empty": ("MALFORMED", {"wrap_public_key": ""}),
        "wrap_key_1025_bytes": ("TOO_LARGE", {"wrap_public_key": b64(bytes(1025))}),
        "version_negative": ("MALFORMED", {"model_version": -1}),
        "version_too_high": ("MALFORMED", {"model_version": 2**53}),
        "evidence_malformed": ("MALFORMED", {"evidence": b64(b"{}")}),
        "evidence_4_mib_and_a_byte": (
            "TOO_LARGE",
            {"evidence": short(b64(bytes(ENVELOPE_LIMIT + 1)))},
        ),
        "8_mib_and_a_byte": ("TOO_LARGE", sized(SERVING_LIMIT + 1)),
        "model_id_without_form": ("MALFORMED", {"model_id": "llama"}),
        "model_id_in_capitals": ("MALFORMED", {"model_id": f"model:{MODEL_ID.raw.hex().upper()}"}),
        **{f"release_{name}": ("MALFORMED", {"release": form}) for name, form in forms.items()},
    }
    return {
        "challenge": CHALLENGE.hex(),
        "query": encode_challenge(CHALLENGE),
        "audience": binding.audience,
        "report_data": binding.report_data().hex(),
        # Of "with_devices": the same parts, but for the devices whose evidence came along.
        "report_data_with_devices": binding.report_data_with(devices_digest(MACHINE.devices)).hex(),
        "accepted": {
            "with_proof": text,
            "without_proof": made(release=None).encode().decode(),
            "version_zero": made(release=None, model_version=0).encode().decode(),
            "with_devices": made(release=None, evidence=MACHINE).encode().decode(),
        },
        # As large as may be: what differs from "with_proof". Its proof is verified later.
        "largest": {"members": sized(SERVING_LIMIT)},
        # The code, and what differs from "with_proof".
        "refused": {
            "member_missing": ["MALFORMED", {"removed": ["release"]}],
            "white_space": ["MALFORMED", {"behind": "\n"}],
        }
        | {name: [code, {"members": each}] for name, (code, each) in members.items()},
        "refused_queries": ["", "AA", encode_challenge(CHALLENGE) + "=", "+" * 43, "_" * 43],
    }


def files() -> dict[str, bytes]:
    """Contents by name."""
    return {
        "approvals.json": as_json(approvals()),
        "devices.json": as_json(devices()),
        "evidence.json": as_json(evidence()),
        "exchange.json": as_json(exchange()),
        "lease-holders.json": as_json(holders()),
        "serving-evidence.json": as_json(serving()),
    }


if __name__ == "__main__":
    sys.exit(write_or_compare(FOLDER, files()))
