"""The TPM section of a policy, from known-good claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.appraisal.config_binding import TPM_PCR
from regalia.tees.boot.policy.section import PCR_SIZE, Boot
from regalia.tees.tpm.policy.section import Tpm

if TYPE_CHECKING:
    from regalia.tees.boot.claims import BootFacts
    from regalia.tees.tpm.claims import TpmClaims

# Firmware, loaders, Secure Boot's state, GRUB, kernel and its parts (TCG PC Client profile; UAPI
# Linux TPM PCR Registry). The others change between boots of one image, or nobody extends them.
PINNED_PCRS = (0, 2, 3, 4, 6, 7, 8, 9, 11)


def pin_tpm(claims: TpmClaims, *, pin_machine: bool, pin_config: bool) -> Tpm:
    """The section that these claims meet."""
    pinned = (*PINNED_PCRS, TPM_PCR) if pin_config else PINNED_PCRS
    named = bool(claims.manufacturer)
    registers = {
        str(index): [claims.pcrs[index].hex()]
        for index in pinned
        if len(claims.pcrs[index]) == PCR_SIZE  # policies list values of the SHA-256 bank
    }
    return Tpm(
        bindings=[claims.binding.value],
        eks=[claims.ek.hex()] if pin_machine else "any",
        manufacturers=[claims.manufacturer] if named else "any",
        firmware_minimum=(
            {claims.manufacturer: f"{claims.firmware_version:016x}"} if named else "any"
        ),
        pcrs=registers or "any",
        boot=pin_boot(claims.boot),
        same_boot="any",  # a reboot is no defect; an owner who thinks otherwise writes it
        revocation="required" if claims.revocation is Revocation.CHECKED else "any",
    )


def pin_boot(facts: BootFacts | None) -> Boot:
    """The rules that a boot meets: registers pin it, so only its state is asked of the log."""
    if facts is None:
        return Boot(
            event_log="any",
            secure_boot="any",
            boot_images="any",
            loader_texts="any",
            loader_digests="any",
            unknown_events="deny",
        )
    silent = not facts.loader_texts and not facts.loader_digests
    return Boot(
        event_log="required",
        secure_boot="required" if facts.secure_boot else "any",
        boot_images=sorted({digest.hex() for digest in facts.boot_images or ()}) or "any",
        loader_texts="any" if silent else list(dict.fromkeys(facts.loader_texts)),
        loader_digests="any" if silent else sorted({d.hex() for d in facts.loader_digests}),
        unknown_events="allow" if facts.unknown_events else "deny",
    )
