"""Codes of refusals that only Intel's evidence knows."""

from __future__ import annotations

from regalia.core.errors import Code


class IntelCode(Code):
    """TDX or SGX evidence whose platform, quoting enclave or module Intel does not vouch for."""

    QE_BINDING_MISMATCH = (
        (
            "The quoting enclave did not vouch for the key that signed the quote, so anybody "
            "could hold that key."
        ),
        "Collect a new quote; if it happens again, the quote was assembled from two others.",
    )
    QE_IDENTITY_MISMATCH = (
        "Only Intel's quoting enclave, in production mode, is known to quote honestly.",
        "Use Intel's quoting enclave, and collateral of its kind: QE for SGX, TD_QE for TDX.",
    )
    TDX_MODULE_MISMATCH = (
        "The TDX module isolates the TD; one that Intel does not list may do anything.",
        "Install a TDX module signed by Intel; fetch TCB info that lists its version.",
    )
    TCB_NO_MATCH = (
        "The platform is below every level that Intel lists, so its weaknesses are not known.",
        "Update BIOS, microcode and TDX module, and have the platform certified again.",
    )
    TCB_REVOKED = (
        "Intel withdrew its trust in this level: keys of such platforms are known to leak.",
        "Update BIOS, microcode and TDX module, and have the platform certified again.",
    )
