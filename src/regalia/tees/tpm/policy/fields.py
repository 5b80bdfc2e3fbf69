"""What conditions may say of a TPM's claims, under ``claims.tpm``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.condition_types import record

if TYPE_CHECKING:
    from regalia.appraisal.condition_types import Fields, Kind, Values
    from regalia.tees.boot.claims import BootFacts
    from regalia.tees.tpm.claims import TpmClaims

_PCRS = range(24)
_TEXT: Kind = "text"

BOOT_FIELDS: Fields = record(
    has_event_log="bool",  # false: all else here is empty
    secure_boot="bool",
    exit_boot_services="bool",
    unknown_events="int",
    boot_images="list of text",
    authorities="list of text",
    loader_texts="list of text",
    loader_digests="list of text",
    db="text",
    dbx="text",
)

TPM_FIELDS: Fields = record(
    binding="text",
    ek="text",
    ak_name="text",
    manufacturer="text",
    model="text",
    version="text",
    firmware_version="text",  # 16 hex digits: more than a number of conditions may hold
    reset_count="int",
    restart_count="int",
    same_boot="bool",
    safe="bool",
    bank="text",
    measurement="text",
    pcrs=record(**{f"pcr{index}": _TEXT for index in _PCRS}),
    boot=BOOT_FIELDS,
)


def tpm_values(claims: TpmClaims) -> Values:
    """Values of ``TPM_FIELDS``. Bytes are lower-case hex."""
    return {
        "binding": str(claims.binding),
        "ek": claims.ek.hex(),
        "ak_name": claims.ak_name.hex(),
        "manufacturer": claims.manufacturer,
        "model": claims.model,
        "version": claims.version,
        "firmware_version": f"{claims.firmware_version:016x}",
        "reset_count": claims.reset_count,
        "restart_count": claims.restart_count,
        "same_boot": claims.same_boot,
        "safe": claims.safe,
        "bank": claims.bank,
        "measurement": claims.measurement.hex(),
        "pcrs": {f"pcr{index}": claims.pcrs[index].hex() for index in _PCRS},
        "boot": boot_values(claims.boot),
    }


def boot_values(facts: BootFacts | None) -> Values:
    """Values of ``BOOT_FIELDS``."""
    if facts is None:
        return {
            "has_event_log": False,
            "secure_boot": False,
            "exit_boot_services": False,
            "unknown_events": 0,
            "boot_images": [],
            "authorities": [],
            "loader_texts": [],
            "loader_digests": [],
            "db": "",
            "dbx": "",
        }
    return {
        "has_event_log": True,
        "secure_boot": bool(facts.secure_boot),
        "exit_boot_services": facts.exit_boot_services,
        "unknown_events": facts.unknown_events,
        "boot_images": [digest.hex() for digest in facts.boot_images or ()],
        "authorities": [digest.hex() for digest in facts.authorities],
        "loader_texts": list(facts.loader_texts),
        "loader_digests": [digest.hex() for digest in facts.loader_digests],
        "db": (facts.db or b"").hex(),
        "dbx": (facts.dbx or b"").hex(),
    }
