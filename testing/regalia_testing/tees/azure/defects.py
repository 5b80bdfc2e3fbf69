"""What can be wrong with a simulated Azure VM, one field for each defect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureDefects:
    """A VM's state. The default is healthy; each field is one defect or choice.

    Those of the hardware below are that platform's own; here are the paravisor's and the vTPM's.
    """

    # The VM, as configured.
    debug: bool = False  # of the hardware's guest
    migratable: bool = False  # likewise
    wrong_measurement: bool = False  # likewise: another paravisor
    no_secure_boot: bool = False
    console_enabled: bool = False
    no_tpm: bool = False
    other_loader: bool = False  # PCR4
    wrong_config: bool = False  # PCR15
    no_event_log: bool = False
    tpm_persisted: bool = False

    # The request.
    stale_nonce: bool = False
    zero_nonce: bool = False
    raw_nonce: bool = False  # the report data's first half, not its digest

    # The paravisor's report.
    vmpl: int = 0  # SNP
    other_runtime_data: bool = False  # altered after the report was made
    report_data_tail: bool = False  # a byte behind the digest
    no_ak: bool = False
    two_aks: bool = False
    ak_not_rsa: bool = False
    ak_exponent_3: bool = False
    ak_small: bool = False
    ak_padded: bool = False  # base64 with padding
    duplicate_member: bool = False
    unknown_member: bool = False  # accepted: the hardware vouches for the bytes
    no_configuration: bool = False
    short_user_data: bool = False
    hcl_version: int = 1
    request_type: int = 2
    status: int = 0
    reserved: bool = False
    report_type: int = 0  # 0: the right one
    hash_type: int = 1
    runtime_version: int = 1
    runtime_size: int = 0  # added to each of the three sizes in turn, see below
    padding: int = 0  # zeros behind the report
    trailing_byte: bool = False
    truncated: bool = False

    # The vTPM's quote.
    other_signer: bool = False  # a key that no report vouches for
    bad_signature: bool = False
    pss: bool = False  # signed in another scheme than the AK's
    register_altered: bool = False  # the value that comes along
    register_missing: bool = False
    fewer_registers: bool = False  # quoted and sent are 0 to 22
    other_bank: bool = False  # SHA-384
    wrong_event_log: bool = False
    broken_event_log: bool = False

    # TDX.
    other_td_report: bool = False  # of another TD than the quote's
    td_report_digest: bool = False  # TDINFO's digest is not TDINFO's


HEALTHY = AzureDefects()
