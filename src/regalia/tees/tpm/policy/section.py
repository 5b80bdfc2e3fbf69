"""The TPM section of a policy. Spec: docs/spec/policy.md, section "platform.tpm"."""

from __future__ import annotations

from typing import Literal

from regalia.appraisal.policy_doc import Doc, Listed, Requirement, Unrestricted
from regalia.tees.boot.policy.section import Boot, Pcrs


class Tpm(Doc, frozen=True, kw_only=True):
    """What a machine and its TPM must be. A list of accepted values that is empty denies.

    A TPM shows what booted; it does not keep the host out of the workload's memory.
    """

    bindings: list[Literal["enrolment", "ak-certificate"]]  # who vouches for the AK
    eks: Listed  # SHA-256 of the EK's SubjectPublicKeyInfo: the machines
    manufacturers: Listed  # of the EK certificate, such as id:49465800
    firmware_minimum: dict[str, str] | Unrestricted  # by manufacturer: firmwareVersion, 8 bytes
    pcrs: Pcrs
    boot: Boot
    same_boot: Requirement  # not rebooted since the AK was enrolled
    revocation: Requirement
