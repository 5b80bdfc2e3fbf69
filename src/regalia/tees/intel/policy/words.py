"""One sentence for every field of the TDX and SGX sections, closed and open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.explanation import Sentence, accepted
from regalia.appraisal.finding import in_full
from regalia.tees.intel.policy.section import SGX_PATH, TDX_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

_ATTRIBUTES = f"{TDX_PATH}.attributes"
_RTMRS = f"{TDX_PATH}.rtmrs"

# Values other than "any" by which a rule demands nothing.
OPEN_VALUES: tuple[tuple[str, object], ...] = tuple(
    (f"{path}.{name}", value)
    for path in (TDX_PATH, SGX_PATH)
    for name, value in (
        ("tcb_evaluation_data_number_minimum", 0),
        ("advisories_denied", []),
    )
)


def _switch(allowed: str, denied: str) -> Callable[[str], str]:
    return lambda value: allowed if value == "allow" else denied


def _advisories(values: list[str]) -> str:
    return f"No platform may be subject to: {in_full(values)}."


def _common(path: str, noun: str) -> tuple[Sentence, ...]:
    return (
        Sentence(f"{path}.tcb_statuses", accepted(f"TCB statuses of {noun}")),
        Sentence(
            f"{path}.advisories_denied",
            _advisories,
            f"No security advisory denies {noun} by itself.",
            "the statuses alone decide which known weaknesses are accepted.",
        ),
        Sentence(
            f"{path}.tcb_evaluation_data_number_minimum",
            f"Collateral about {noun} must have TCB evaluation data number {{}} or more.".format,
            f"Collateral about {noun} of any TCB evaluation is accepted.",
            "collateral from before a weakness was published calls the platform healthy.",
        ),
        Sentence(
            f"{path}.quote_version_minimum",
            f"Quotes of {noun} must be of version {{}} or later.".format,
        ),
        Sentence(
            f"{path}.ppids",
            accepted(f"platforms of {noun} (PPID)"),
            f"Any platform of {noun} is accepted.",
            "a genuine platform in an attacker's hands, with an interposer on its bus, passes.",
        ),
        Sentence(
            f"{path}.dynamic_platform",
            _switch(
                f"The platform of {noun} may be one that takes further packages.",
                f"The platform of {noun} must not be one that takes further packages.",
            ),
        ),
        Sentence(
            f"{path}.cached_keys",
            _switch(
                f"Keys of the platform of {noun} may be kept by Intel's registration service.",
                f"Keys of the platform of {noun} must not be kept by Intel's registration service.",
            ),
        ),
        Sentence(
            f"{path}.smt",
            _switch(
                f"The platform of {noun} may run with SMT; another thread may share a core.",
                f"The platform of {noun} must run without SMT.",
            ),
        ),
        Sentence(
            f"{path}.revocation",
            f"It must be known that no certificate for {noun} is revoked.".format,
            f"Certificates for {noun} need not be checked for revocation.",
            "a key that Intel has revoked after a leak still passes.",
        ),
    )


def _attribute(name: str, text: str) -> Sentence:
    return Sentence(
        f"{_ATTRIBUTES}.{name}", _switch(f"The TD may {text}.", f"The TD must not {text}.")
    )


def _rtmr(number: int, noun: str) -> Sentence:
    return Sentence(
        f"{_RTMRS}.rtmr{number}",
        accepted(f"values of RTMR{number} ({noun})"),
        f"Any value of RTMR{number} is accepted.",
        f"{noun} may be anybody's.",
    )


def _register(name: str, noun: str, risk: str) -> Sentence:
    return Sentence(f"{TDX_PATH}.{name}", accepted(noun), f"Any {noun} are accepted.", risk)


SENTENCES: tuple[Sentence, ...] = (
    *_common(TDX_PATH, "TDs"),
    _register(
        "mrtd", "TD measurements (MRTD)", "other firmware than yours may start, with any kernel."
    ),
    _rtmr(0, "firmware configuration"),
    _rtmr(1, "boot loader and kernel"),
    _rtmr(2, "command line and initrd"),
    _rtmr(3, "what runs after the boot"),
    Sentence(
        f"{TDX_PATH}.mr_config_id",
        accepted("runtime configurations of TDs (SHA-384)"),
        "Any runtime configuration of a TD is accepted that meets the rules below.",
        "the operator may change placement and egress as far as the other rules let them.",
    ),
    _register("mr_owner", "TD owners (MROWNER)", "whoever launched the TD is not checked."),
    _register(
        "mr_owner_config",
        "owner configurations (MROWNERCONFIG)",
        "what the TD's owner configured is not checked.",
    ),
    _register(
        "mr_seam",
        "TDX modules (MRSEAM)",
        "any module that Intel lists is accepted, as far as the statuses let it.",
    ),
    _register(
        "mr_signer_seam",
        "TDX module signers (MRSIGNERSEAM)",
        "the signer is held against Intel's own list only.",
    ),
    Sentence(
        f"{TDX_PATH}.xfam",
        accepted("sets of extended features (XFAM)"),
        "Any set of extended features is accepted.",
        "features with side channels of their own may be on.",
    ),
    Sentence(
        f"{_ATTRIBUTES}.sept_ve_disable",
        "SEPT_VE_DISABLE must be set.".format,
        "SEPT_VE_DISABLE may be clear.",
        "the host can inject exceptions into the TD by taking memory away.",
    ),
    _attribute("perfmon", "use performance counters (PERFMON)"),
    _attribute("pks", "use supervisor protection keys (PKS)"),
    _attribute("kl", "use Key Locker (KL)"),
    _attribute("lass", "use linear address space separation (LASS)"),
    _attribute("icssd", "have ICSSD set"),
    _attribute("tpa", "be a TDX provisioning agent (TPA)"),
    Sentence(
        f"{TDX_PATH}.service_td",
        _switch("Service TDs may be bound to the TD.", "No service TD may be bound to the TD."),
    ),
    Sentence(
        f"{TDX_PATH}.event_log",
        "An event log must come along that leads to the RTMRs.".format,
        "No event log is demanded.",
        "register values that you did not compute yourself say nothing.",
    ),
    *_common(SGX_PATH, "enclaves"),
    Sentence(
        f"{SGX_PATH}.mrenclaves",
        accepted("enclave measurements (MRENCLAVE)"),
        "Any enclave measurement is accepted.",
        "whatever an accepted signer signs gets the key, as far as mrsigners lets it.",
    ),
    Sentence(
        f"{SGX_PATH}.mrsigners",
        accepted("enclave signers (MRSIGNER)"),
        "Any enclave signer is accepted.",
        "who signed the enclave is not checked; the measurement alone says what runs.",
    ),
    Sentence(
        f"{SGX_PATH}.isv_prod_ids",
        accepted("enclave products (ISVPRODID)"),
        "Any product of an enclave's signer is accepted.",
        "another enclave of the same signer may get the key.",
    ),
    Sentence(
        f"{SGX_PATH}.isv_svn_minimum",
        "The enclave's security version (ISVSVN) must be at least {}.".format,
    ),
    Sentence(
        f"{SGX_PATH}.config_ids",
        accepted("runtime configurations of enclaves (SHA-512)"),
        "Any runtime configuration of an enclave is accepted that meets the rules below.",
        "the operator may change placement and egress as far as the other rules let them.",
    ),
    Sentence(
        f"{SGX_PATH}.config_svn_minimum",
        "The configuration's security version (CONFIGSVN) must be at least {}.".format,
    ),
    Sentence(
        f"{SGX_PATH}.xfrm",
        accepted("sets of extended features (XFRM)"),
        "Any set of extended features of an enclave is accepted.",
        "features with side channels of their own may be on.",
    ),
    Sentence(
        f"{SGX_PATH}.provision_key",
        _switch(
            "The enclave may use provisioning keys, which name the platform.",
            "The enclave must not use provisioning keys, which name the platform.",
        ),
    ),
)
