"""What can be wrong with a simulated platform, one field for each defect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from regalia.tees.snp.evidence.wire import EndorsementKeyKind

KeyName = Literal["vcek", "vlek", "none"]
_SIGNING_KEYS = {key.name.lower(): key for key in EndorsementKeyKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpDefects:
    """A platform's state. The default is a healthy platform; each field is one defect or choice.

    Plain booleans, integers and words, so that they can stand in a configuration file.
    """

    # The guest, as launched.
    debug: bool = False
    migrate: bool = False
    smt: bool = True
    single_socket: bool = False
    wrong_measurement: bool = False
    wrong_host_data: bool = False
    mem_aes_256_xts: bool = False
    rapl_dis: bool = False
    ciphertext_hiding: bool = False
    page_swap_disable: bool = False
    id_block: int = 0  # which of the signer's ID blocks; 0: launched without one
    author_key: bool = False  # the ID key is certified by an author key
    guest_svn: int = 0

    # The request.
    vmpl: int = 0
    stale_nonce: bool = False  # the report carries an old report data
    zero_report_data: bool = False

    # The platform.
    old_tcb: bool = False  # all four TCBs are old, and the leaf is for the old one
    old_launch_tcb: bool = False  # the guest was started before the update
    provisional_firmware: bool = False  # current above committed
    missing_alias_check: bool = False
    missing_ecc: bool = False
    mit_vector: int = 0x3F  # report version 5 only
    report_version: int = 0  # 0: the product's own
    mask_chip_key: bool = False
    mask_chip_id: bool = False
    signing_key: KeyName = "vcek"

    # Forgeries and accidents. They are signed by the right key unless they are about signing.
    bad_signature: bool = False
    signature_algo: int = 1
    reserved_byte: int = 0  # offset of a byte that is set to 1; 0: none
    policy_reserved_bit: bool = False  # bit 26
    policy_bit_17_clear: bool = False
    key_info_reserved_bit: bool = False  # bit 5
    reserved_tcb_byte: bool = False  # in CURRENT_TCB
    wide_signature: bool = False  # a scalar of more than 48 bytes
    trailing_byte: bool = False
    truncated: bool = False
    cpuid_mismatch: bool = False  # the CPU of another product
    leaf_tcb_mismatch: bool = False
    leaf_hwid_mismatch: bool = False
    leaf_kind_mismatch: bool = False  # a VLEK comes along for a VCEK report, or the reverse
    leaf_expired: bool = False
    no_endorsements: bool = False

    @property
    def key(self) -> EndorsementKeyKind:
        """SIGNING_KEY of the report."""
        return _SIGNING_KEYS[self.signing_key]


HEALTHY = SnpDefects()
