"""Documents that are no statements: which well-formed one they differ from, in what, and the code.

``action`` names members of the action, and ``removed_of_action`` those that it lacks; the others
are as in other vector files.
"""

from __future__ import annotations

from typing import Any

_M = "MALFORMED"
_LONG = "a" * 129
_LATER = "2027-01-01T00:00:00Z"

REFUSALS: dict[str, tuple[str, dict[str, Any], str]] = {
    "format_other": ("stop", {"members": {"format": "regalia/statement/v2"}}, _M),
    "member_unknown": ("stop", {"members": {"note": ""}}, _M),
    "member_missing": ("stop", {"removed": ["not_before"]}, _M),
    "bytes_behind": ("stop", {"behind": "\n"}, _M),
    "larger": ("stop", {"members": {"tenant": "a" * (24 * 1024)}}, "TOO_LARGE"),
    "tenant_empty": ("stop", {"members": {"tenant": ""}}, _M),
    "tenant_upper_case": ("stop", {"members": {"tenant": "Acme"}}, _M),
    "tenant_long": ("stop", {"members": {"tenant": "a" * 65}}, _M),
    "tenant_path": ("stop", {"members": {"tenant": "../acme"}}, _M),
    "tenant_line_behind": ("stop", {"members": {"tenant": "acme\n"}}, _M),
    "sequence_zero": ("stop", {"members": {"sequence": 0}}, _M),
    "sequence_negative": ("stop", {"members": {"sequence": -1}}, _M),
    "sequence_large": ("stop", {"members": {"sequence": 1 << 53}}, _M),
    "sequence_text": ("stop", {"members": {"sequence": "2"}}, _M),
    "sequence_true": ("stop", {"members": {"sequence": True}}, _M),
    "sequence_fraction": ("stop", {"members": {"sequence": 2.5}}, _M),
    "previous_zero": ("stop", {"members": {"previous": f"sha256:{'0' * 64}"}}, _M),
    "previous_of_the_first": ("charter", {"members": {"previous": f"sha256:{'1' * 64}"}}, _M),
    "previous_short": ("stop", {"members": {"previous": f"sha256:{'1' * 62}"}}, _M),
    "previous_upper_case": ("stop", {"members": {"previous": f"sha256:{'A' * 64}"}}, _M),
    "time_fraction": ("stop", {"members": {"time": "2026-12-01T12:00:00.0Z"}}, _M),
    "time_zone": ("stop", {"members": {"time": "2026-12-01T12:00:00+00:00"}}, _M),
    "expires_before_time": ("stop", {"members": {"expires": "2026-12-01T11:59:59Z"}}, _M),
    "not_before_before_time": (
        "rotate",
        {"members": {"not_before": "2026-12-01T11:59:59Z"}},
        _M,
    ),
    "not_before_of_a_stop": ("stop", {"members": {"not_before": _LATER}}, _M),
    "not_before_of_a_revocation": ("revoke_chip", {"members": {"not_before": _LATER}}, _M),
    "kind_unknown": ("stop", {"action": {"kind": "start"}}, _M),
    "kind_missing": ("stop", {"action": {}, "removed_of_action": ["kind"]}, _M),
    "action_member_unknown": ("stop", {"action": {"why": ""}}, _M),
    "action_member_missing": ("stop", {"action": {}, "removed_of_action": ["model_id"]}, _M),
    "stop_other_model": ("stop", {"action": {"model_id": "model:00"}}, _M),
    "resume_other_model": ("resume", {"action": {"model_id": ""}}, _M),
    "owners_none": ("charter", {"action": {"owners": []}}, _M),
    "threshold_zero": ("charter", {"action": {"threshold": 0}}, _M),
    "threshold_above_owners": ("charter", {"action": {"threshold": 4}}, _M),
    "delay_zero": ("charter", {"action": {"delays": {"charter": 0}}}, _M),
    "delay_long": ("charter", {"action": {"delays": {"charter": 366 * 86400 + 1}}}, _M),
    "delay_of_a_stop": ("charter", {"action": {"delays": {"stop": 60}}}, _M),
    "delay_of_a_revocation": ("charter", {"action": {"delays": {"revoke": 60}}}, _M),
    "model_version_zero": ("register_model", {"action": {"version": 0}}, _M),
    "manifest_no_digest": ("register_model", {"action": {"manifest": "sha256:00"}}, _M),
    "policy_no_id": ("publish_policy", {"action": {"policy_id": "policy:00"}}, _M),
    "tee_unknown": ("reference_value", {"action": {"tee": "sgx2"}}, _M),
    "measurement_empty": ("reference_value", {"action": {"measurement": ""}}, _M),
    "measurement_long": ("reference_value", {"action": {"measurement": "00" * 65}}, _M),
    "measurement_upper_case": ("reference_value", {"action": {"measurement": "AB" * 48}}, _M),
    "transition_unknown": ("reference_value", {"action": {"transition": "demote"}}, _M),
    "until_of_a_stage": ("reference_value", {"action": {"until": _LATER}}, _M),
    "retired_without_until": ("reference_value_retired", {"action": {"until": None}}, _M),
    "model_version_staged": ("model_version", {"action": {"transition": "stage"}}, _M),
    "model_version_until": ("model_version", {"action": {"until": _LATER}}, _M),
    "rotate_to_itself": ("rotate", {"action": {"new": "kek-1"}}, _M),
    "rotate_empty": ("rotate", {"action": {"old": ""}}, _M),
    "rotate_long": ("rotate", {"action": {"old": _LONG}}, _M),
    "rotate_escape": ("rotate", {"action": {"old": "\x1b[2J"}}, _M),
    "subject_unknown": ("revoke_chip", {"action": {"subject": "owner"}}, _M),
    "revoke_measurement_without_tee": ("revoke_measurement", {"action": {"value": "00"}}, _M),
    "revoke_measurement_of_a_device": (
        "revoke_measurement",
        {"action": {"value": "nvidia-gpu:00"}},
        _M,
    ),
    "revoke_chip_of_nothing": ("revoke_chip", {"action": {"value": "sev-snp:"}}, _M),
    "revoke_chip_long": ("revoke_chip", {"action": {"value": f"sev-snp:{'00' * 129}"}}, _M),
    "revoke_signer_no_key": ("revoke_signer", {"action": {"value": "sev-snp:00"}}, _M),
    "revoke_version_without": (
        "revoke_model_version",
        {"action": {"value": f"model:{'0' * 64}"}},
        _M,
    ),
    "revoke_version_leading_zero": (
        "revoke_model_version",
        {"action": {"value": f"model:{'0' * 64}@03"}},
        _M,
    ),
    "revoke_version_sign": (
        "revoke_model_version",
        {"action": {"value": f"model:{'0' * 64}@+3"}},
        _M,
    ),
    "revoke_version_other_digits": (
        "revoke_model_version",
        {"action": {"value": f"model:{'0' * 64}@\N{ARABIC-INDIC DIGIT THREE}"}},
        _M,
    ),
    "revoke_version_zero": (
        "revoke_model_version",
        {"action": {"value": f"model:{'0' * 64}@0"}},
        _M,
    ),
}
_TERMS: dict[str, Any] = {
    "ends": None,
    "sites": None,
    "jurisdictions": None,
    "roles": None,
    "derivatives": "none",
}


def _terms(**changes: Any) -> tuple[str, dict[str, Any], str]:  # noqa: ANN401
    return "register_model", {"action": {"terms": _TERMS | changes}}, _M


REFUSALS |= {
    "terms_member_unknown": _terms(country="eu"),
    "terms_ends_a_day": _terms(ends="2027-01-01"),
    "terms_sites_empty": _terms(sites=[]),
    "terms_sites_unsorted": _terms(sites=["two", "one"]),
    "terms_sites_twice": _terms(sites=["one", "one"]),
    "terms_site_empty": _terms(sites=[""]),
    "terms_sites_many": _terms(sites=[f"{number:03}" for number in range(65)]),
    "terms_jurisdictions_empty": _terms(jurisdictions=[]),
    "terms_roles_line": _terms(roles=["own\n"]),
    "terms_derivatives_unknown": _terms(derivatives="merges"),
}


def _owners(*rows: tuple[str, str, str]) -> tuple[str, dict[str, Any], str]:
    owners = [{"key": key, "name": name, "role": role} for key, name, role in rows]
    return "charter", {"action": {"owners": owners, "threshold": 1}}, _M


_ANN = "MCowBQYDK2VwAyEAJ0+e/4Q2WFaXGqLPSzI1kdC0tkNbgs0xoGYvQyL9dxg="
_BEN = "MCowBQYDK2VwAyEA2rNV2q1oXmYqHY7w0pN7m0Gq8yqDkq4i3mN0yY8Q2Jc="
REFUSALS |= {
    "owners_unsorted": _owners((_BEN, "ben", "x"), (_ANN, "ann", "x")),
    "owners_one_name": _owners((_ANN, "ann", "x"), (_BEN, "ann", "x")),
    "owners_one_key": _owners((_ANN, "ann", "x"), (_ANN, "ben", "x")),
    "owners_nine": _owners(*((_ANN, f"ann{n}", "x") for n in range(9))),
    "owner_name_upper_case": _owners((_ANN, "Ann", "x")),
    "owner_without_role": _owners((_ANN, "ann", "")),
    "owner_key_cut": (
        "charter",
        {"action": {"owners": [{"key": _ANN[:-4], "name": "ann", "role": "x"}], "threshold": 1}},
        "PUBLIC_KEY_MALFORMED",
    ),
    "owner_key_not_canonical": _owners((_ANN.removesuffix("="), "ann", "x")),
}
