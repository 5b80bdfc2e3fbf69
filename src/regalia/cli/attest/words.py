"""What a newcomer is told before the checks: what this kind of evidence is, and is not."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GENERAL = (
    "Evidence is a statement about a machine that a key inside the machine signed. Three questions"
    " decide what it is worth. Is it genuine: does the vendor's root vouch for that key? Is it"
    " fresh: was it made for your challenge, or recorded earlier? Is it acceptable: is what it says"
    " what your policy demands? Each check below answers a part of one of them; the first check of"
    " the vendor's that fails ends the appraisal, while all rules of a policy are always looked at."
)

SUBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "sev-snp": (
            "An SEV-SNP report is signed by a key in an AMD processor. It names the chip, the"
            " versions of its firmware (TCB), and the digest of the virtual machine's first memory"
            " (MEASUREMENT): that is how you know what was started. The cloud's staff cannot read"
            " the memory of such a machine, unless it was started in debug mode."
        ),
        "tdx": (
            "A TDX quote is signed by Intel's quoting enclave on the machine. MRTD is the digest of"
            " the virtual machine's firmware, and RTMR0 to RTMR3 grow with everything that is"
            " started afterwards. Intel publishes which firmware levels have known weaknesses (TCB"
            " info); the status below comes from that list."
        ),
        "sgx": (
            "An SGX quote is signed by Intel's quoting enclave on the machine. MRENCLAVE is the"
            " digest of one enclave, MRSIGNER the key of who built it. Intel publishes which"
            " firmware levels have known weaknesses (TCB info); the status comes from that list."
        ),
        "aws-nitro": (
            "A Nitro document is signed by AWS's hypervisor, so it is AWS whom you trust: no"
            " processor maker stands behind it. PCR0 is the digest of the enclave's image, PCR8"
            " the certificate that signed the image. In debug mode these registers are zero."
        ),
        "tpm": (
            "A TPM quote is signed by an attestation key (AK) in a TPM. Its registers (PCRs) hold"
            " digests of everything that booted. A TPM proves what booted and hides nothing:"
            " whoever runs the host of a virtual machine still reads its memory. The quote is worth"
            " something only if somebody you trust says that the AK lives in a genuine TPM."
        ),
        "az-snp-vtpm": (
            "An Azure confidential VM has two parts: an SEV-SNP report, made at boot, about"
            " Microsoft's paravisor; and a quote, made now, by the virtual TPM that the paravisor"
            " runs. The report vouches for the TPM's key, the TPM for what booted above."
        ),
        "az-tdx-vtpm": (
            "An Azure confidential VM has two parts: a TDX quote, made at boot, about Microsoft's"
            " paravisor; and a quote, made now, by the virtual TPM that the paravisor runs. The"
            " first vouches for the TPM's key, the TPM for what booted above."
        ),
        "nvidia-gpu": (
            "A GPU's report is signed by a key that its boot firmware derived. It holds digests of"
            " the firmware that runs on the GPU, which reference values of NVIDIA (RIMs) explain."
            " It says nothing of the programs on the GPU, and nothing of the machine it is in: only"
            " a CPU's report that commits to it does."
        ),
        "nvidia-switch": (
            "A switch's report is like a GPU's: it shows that the links between GPUs run through a"
            " genuine switch with known firmware."
        ),
    }
)

STANDING = (
    "Below each check: what was seen, what was wanted, and what the check protects from. No"
    " evidence shows who stands beside the machine: a probe on the memory bus, or a machine in the"
    " attacker's own hands, is answered by lists of machines whose place you know."
)
