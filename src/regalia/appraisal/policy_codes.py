"""Why claims are not acceptable: the reason codes of denials."""

from __future__ import annotations

from regalia.core.errors import Code


class PolicyCode(Code):
    """Reasons of a Deny. The order is that of the checks."""

    EMPTY_RULE = (
        "A list of accepted values that is empty accepts nothing: it is never taken for consent.",
        'List what is acceptable, or write "any" where nothing needs to be fixed.',
    )
    SIMULATED_HARDWARE = (
        "Simulated evidence is signed by a throw-away key: whoever runs the host can read all.",
        "Run on the real hardware; for a trial, use a policy made for simulation only.",
    )
    HARDWARE_NOT_SIMULATED = (
        "A policy for simulation stands for a trial, and a trial's keys protect nothing.",
        'Write a policy with hardware "genuine" for this platform.',
    )
    DEBUG_ENABLED = (
        "In debug mode the host reads and writes the workload's memory.",
        (
            "Start the workload without debug mode, as its TEE names it (guest policy bit 19 of "
            "SNP, TDATTRIBUTES bit 0 of TDX, a debug enclave of SGX, --debug-mode of Nitro, and so "
            "on). No policy accepts it."
        ),
    )
    MIGRATION_ALLOWED = (
        "A migration agent outside the measurement may carry the workload's memory away.",
        (
            "Start the workload without migration, as its TEE names it (guest policy bit 18 of "
            "SNP, TDATTRIBUTES bit 29 of TDX, and so on). No policy accepts it."
        ),
    )
    TEE_NOT_ACCEPTED = (
        "A kind of TEE that the owner said nothing about would be held against nothing.",
        "Run on a kind that the policy has a section for, or pin a section for this one.",
    )
    POLICY_BIT = (
        "The guest was started with a weaker guest policy than the owner demands.",
        "Start the guest with the guest policy that the message names.",
    )
    PRODUCT_DENIED = (
        "Some processor lines leak their signing secrets, so that reports can be forged.",
        "Use an accepted product. For Milan, list the chip ids of machines in your own custody.",
    )
    REPORT_VERSION_TOO_OLD = (
        "Older reports lack fields that later checks need.",
        "Update the platform's SEV firmware.",
    )
    SIGNING_KEY_DENIED = (
        "A VLEK is a key that AMD gave to a cloud provider; a VCEK belongs to one chip.",
        "Let the platform sign with an accepted kind of key, or list this kind in signing_keys.",
    )
    CSP_NOT_ALLOWED = (
        "The VLEK belongs to a cloud provider that the policy does not accept.",
        "Run at an accepted provider, or list this one in csp_ids.",
    )
    REVOCATION_UNKNOWN = (
        "A certificate that was revoked after a leak still verifies.",
        "Give the verifier the product's current CRL.",
    )
    INSTANCE_NOT_ALLOWED = (
        "Evidence cannot show who has physical access to a chip; a list of known chips can.",
        "Run on an enrolled machine, or enrol this one after checking where it stands.",
    )
    TCB_NO_MINIMUM = (
        "Without a minimum for this product old, broken firmware would be accepted.",
        "Add the product to tcb_minimum.",
    )
    TCB_BELOW_MINIMUM = (
        "Firmware below the minimum has known ways in.",
        "Update BIOS and SEV firmware, commit the update, and start the guest again.",
    )
    FIRMWARE_BELOW_MINIMUM = (
        "SEV firmware below the minimum has known ways in.",
        "Update the SEV firmware and commit it.",
    )
    TCB_PROVISIONAL = (
        "Firmware that is not committed can be rolled back to an older one at any time.",
        "Commit the firmware on the host (SNP_COMMIT).",
    )
    MITIGATION_MISSING = (
        "Some fixes are live updates that no TCB number shows; only the mitigation vector does.",
        "Apply the firmware mitigation on the host, and start the guest again.",
    )
    PLATFORM_FLAG_MISSING = (
        "The platform did not turn on a protection, such as the check against memory aliasing.",
        "Turn it on in the BIOS, or update the firmware that provides it.",
    )
    VMPL_MISMATCH = (
        "At a lower privilege level something else, which this report does not measure, is above.",
        "Request the report at the privilege level that the policy names.",
    )
    WORKLOAD_UNPINNED = (
        "With neither measurement nor id key fixed, anybody's own software gets the key.",
        "List the accepted measurements, or the keys that sign the accepted ID blocks.",
    )
    MEASUREMENT_UNKNOWN = (
        "Other software than the accepted one runs in the guest; it could copy the weights.",
        "Run the accepted image; after a deliberate update, pin the new measurement.",
    )
    ID_KEY_UNKNOWN = (
        "The guest's ID block was signed by somebody else, or there is none.",
        "Launch with an ID block signed by an accepted key.",
    )
    ID_BLOCK_DENIED = (
        "The guest's ID block is signed by an accepted key, but for another image or an older one.",
        "Launch with a current ID block, or add an entry for this one to id_blocks.",
    )
    HOST_DATA_UNKNOWN = (
        "The guest was launched with a configuration that nobody accepted.",
        "Launch with an accepted runtime configuration, or list this one's SHA-256.",
    )
    TCB_OUT_OF_DATE = (
        "Intel lists known weaknesses of this platform's firmware that an update mends.",
        "Update BIOS, microcode and TDX module; a TD whose module is new needs a new launch.",
    )
    TCB_STATUS_DENIED = (
        "Intel says that the platform needs a configuration or software that resists attacks.",
        "Configure the platform as Intel's advisories say, or list the status in tcb_statuses.",
    )
    ADVISORY_DENIED = (
        "A security advisory that the owner does not tolerate applies to this platform.",
        "Update the platform as the advisory says.",
    )
    TCB_EVALUATION_TOO_OLD = (
        "Collateral from before a weakness was published calls a weak platform healthy.",
        "Fetch current collateral from the vendor.",
    )
    TDX_MODULE_DENIED = (
        "The module that isolates the TD is not one that the owner accepts.",
        "Run an accepted TDX module, or list this one.",
    )
    SERVICE_TD_DENIED = (
        "A service TD that is bound to the TD may act on it, and is measured elsewhere.",
        "Launch the TD without service TDs.",
    )
    TD_OWNER_UNKNOWN = (
        "The TD was launched in the name of somebody whom the owner did not accept.",
        "Launch with the accepted MROWNER and MROWNERCONFIG, or list these.",
    )
    EVENT_LOG_INSUFFICIENT = (
        "Without a log whose every event is understood, registers say less than they seem to.",
        "Send the event log of this boot; find out what measures events of unknown type.",
    )
    ENCLAVE_VERSION_DENIED = (
        "Another product of the same signer, or an older one with known holes, may leak the key.",
        "Run an accepted product of at least the security version that the policy names.",
    )
    IMAGE_SIGNER_UNKNOWN = (
        "The enclave's image was signed by somebody else, or by nobody.",
        "Build the image with an accepted signing certificate.",
    )
    ROLE_NOT_ALLOWED = (
        "The parent instance acts for somebody else than the owner agreed to.",
        "Start the parent instance with an accepted IAM role.",
    )
    AK_BINDING_DENIED = (
        "Who vouches for a TPM's key decides what the key is worth: its maker, or a cloud.",
        "Enrol the machine's AK, or list this kind in bindings.",
    )
    REBOOTED_SINCE_ENROLMENT = (
        "Whoever has the machine may have done anything to it while it was off.",
        "Enrol the machine again since its last start, or write same_boot = any.",
    )
    PCR_UNKNOWN = (
        "Something else booted than what the owner accepted; it could copy the weights.",
        "Boot the accepted image; after a deliberate update, pin the new register value.",
    )
    BOOT_DENIED = (
        "A debugger or a failed start leaves room for anything.",
        "Boot the machine cleanly, without the thing that the message names.",
    )
    SECURE_BOOT_OFF = (
        "Without Secure Boot whoever writes the disk chooses what boots.",
        "Turn on UEFI Secure Boot, with your own keys or your vendor's.",
    )
    BOOT_STEP_UNKNOWN = (
        "A program, file or command line took part in the boot that the owner does not know.",
        "Boot the accepted image; after a deliberate update, pin the new boot.",
    )
    VM_CONFIGURATION_DENIED = (
        "The VM was configured so that its host has a way in, or so that its boot is not held.",
        "Create the VM again with the configuration that the message names.",
    )
    COLLATERAL_LATE = (
        "Collateral out of its dates does not show what was revoked or fixed since.",
        (
            "Give the verifier current collateral; a grace period is a policy's own word, "
            "dangerous_collateral_grace_days."
        ),
    )
    DEVICE_SET_MISMATCH = (
        "A device that is not attested could see weights and prompts in clear.",
        (
            "Attest exactly the devices that the policy lists; for CPU-only serving the list is "
            "empty."
        ),
    )
    DEVICE_FEATURE_DENIED = (
        "The mode of confidential computing decides which links of the device are protected.",
        "Put the devices into an accepted mode, or list this one in features.",
    )
    DEVICE_FIRMWARE_DENIED = (
        "Drivers and VBIOS of other versions may have known ways in.",
        "Install accepted versions; after a deliberate update, list the new ones.",
    )
    RIM_MISSING = (
        "Without reference values a device's firmware could be anybody's.",
        "Ingest NVIDIA's reference values for these versions into the collateral.",
    )
    CONFIG_MISMATCH = (
        "The configuration that came along is not the one that the hardware recorded.",
        "Send the exact bytes whose SHA-256 was given as HOST_DATA at launch.",
    )
    MODEL_MISMATCH = (
        "A key is released for one model only, to a runtime that was measured for that model.",
        "Ask with the policy of this model, or configure the runtime for it.",
    )
    MODEL_VERSION_TOO_OLD = (
        "An older version may be one that its owner withdrew.",
        "Fetch the current sealed model.",
    )
    OWNER_KEY_MISMATCH = (
        "A runtime that trusts another owner's key would accept another's model and policy.",
        "Configure the runtime with the owner key that the policy names.",
    )
    LOG_KEY_MISMATCH = (
        "A runtime that trusts another log can be served a release that nobody sees.",
        "Configure the runtime with the log key that the policy names.",
    )
    EGRESS_DENIED = (
        "Every address that the workload may reach is a way out for weights and prompts.",
        "Remove the address from the runtime configuration, or accept it in the policy.",
    )
    SURFACE_DENIED = (
        "An open surface of the engine shows more of the weights, or of what others ask.",
        "Leave the surface out of the runtime configuration, or accept it in the policy.",
    )
    ADAPTER_DENIED = (
        "An adapter changes what the model answers, so owners and clients say which they accept.",
        "Leave the adapter out of the runtime configuration, or accept it in the policy.",
    )
    PLACEMENT_DENIED = (
        "The owner decided where the model may run. The operator asserts it, and it is measured.",
        "Run it in an accepted region, site and tier.",
    )
    EVIDENCE_TOO_OLD = (
        "Only a fresh challenge shows that the evidence was not recorded earlier.",
        "Ask for a new challenge and answer it at once.",
    )
    HOLDERS_EXHAUSTED = (
        "The cap bounds how much one forged or stolen attester can take.",
        "Stop a runtime or wait until its lease ends, or raise holders_max.",
    )
    CUSTODY_DENIED = (
        "The owner decided where the model key may be in clear during a release.",
        "Use a key store with an accepted custody, or accept this one.",
    )
    APPROVALS_MISSING = (
        "The owner wants several people to agree, so that nobody can do it alone.",
        "Collect the missing approvals from the listed approvers.",
    )
    CONDITION_FALSE = (
        "The owner added this condition, and the claims do not meet it.",
        "Read the condition; regalia policy explain shows it with the policy.",
    )
    CONDITION_ERROR = (
        "A condition that cannot be decided is never taken as met.",
        "Correct the expression; docs/spec/policy.md lists the fields and the functions.",
    )
