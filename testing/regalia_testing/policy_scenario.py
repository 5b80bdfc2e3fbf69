"""One known-good platform and a policy that accepts exactly it; a test breaks one thing of it.

The claims are minted here, not verified: this is for tests of ``regalia.policy`` and of what
builds on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.core.types import Digest, KeyFingerprint, ModelId
from regalia.policy.context import ClientContext, ReleaseContext
from regalia.policy.documents import (
    CLIENT_FORMAT,
    RELEASE_FORMAT,
    Approvals,
    ClientPolicy,
    Freshness,
    ModelRule,
    PlacementRule,
    Platform,
    ReleasePolicy,
    RuntimeRule,
)
from regalia.policy.evaluate import evaluate_client, evaluate_release
from regalia.policy.verdict import Deny
from regalia.tees.snp.claims import Firmware, SnpClaims, Tcb
from regalia.tees.snp.policy.section import FirmwareMinimum, GuestPolicy, IdBlock, Snp, TcbMinimum
from regalia.wire.runtime_config import FORMAT, Placement, RuntimeConfig

if TYPE_CHECKING:
    from regalia.policy.evaluate import Verdict

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
MODEL = ModelId(bytes(range(32)))
OWNER = KeyFingerprint(b"\x0a" * 32)
LOG_KEY = "log.example+0badc0de+AQID"
ALICE, BOB, CAROL = (str(KeyFingerprint(bytes([n]) * 32)) for n in (1, 2, 3))

ID_BLOCK = IdBlock(
    id_key="22" * 48,
    author_key="23" * 48,
    family_id="77" * 16,
    image_id="78" * 16,
    guest_svn_minimum=3,
)

Document = TypeVar("Document", bound=msgspec.Struct)


def _config() -> RuntimeConfig:
    return RuntimeConfig(
        format=FORMAT,
        model_id=str(MODEL),
        owner_key=str(OWNER),
        log_key=LOG_KEY,
        placement=Placement(region="eu-west", site="hall-1", tier="own"),
        egress=["store.example:443"],
    )


def _claims(config: RuntimeConfig) -> SnpClaims:
    tcb = Tcb(fmc=0, bootloader=9, tee=2, snp=21, microcode=72)
    return SnpClaims(
        hardware=Hardware.GENUINE,
        product="Genoa",
        revocation=Revocation.CHECKED,
        evidence_digest=Digest.of(b"evidence"),
        report_version=5,
        guest_svn=3,
        policy=0x3D3_0000 | 1 << 8 | 55,  # bits 25 to 22, single socket, 17, SMT, ABI 1.55
        family_id=b"\x77" * 16,
        image_id=b"\x78" * 16,
        vmpl=0,
        signing_key="vcek",
        csp_id=None,
        platform_info=0b10_0101,  # SMT, ECC, ALIAS_CHECK_COMPLETE
        report_data=b"\x55" * 64,
        measurement=b"\x11" * 48,
        host_data=config.digest().raw,
        id_key_digest=b"\x22" * 48,
        author_key_digest=b"\x23" * 48,
        report_id=b"\x33" * 32,
        chip_id=b"\x44" * 64,
        current_tcb=tcb,
        reported_tcb=tcb,
        committed_tcb=tcb,
        launch_tcb=tcb,
        current_firmware=Firmware(1, 55, 40),
        committed_firmware=Firmware(1, 55, 40),
        launch_mit_vector=0b111,
        current_mit_vector=0b111,
        mint=MINT,
    )


def _policy(config: RuntimeConfig) -> ReleasePolicy:
    return ReleasePolicy(
        format=RELEASE_FORMAT,
        name="weights for hall 1",
        version=4,
        model=ModelRule(id=str(MODEL), version_minimum=7),
        platform=Platform(hardware="genuine", snp=snp_section(config), devices=[]),
        freshness=Freshness(challenge_max_age_s=60),
        placement=PlacementRule(regions=["eu-west", "eu-north"], sites=["hall-1"], tiers=["own"]),
        runtime=RuntimeRule(
            owner_key=str(OWNER), log_key=LOG_KEY, egress=["store.example:443", "ntp.example:123"]
        ),
        holders_max=3,
        lease_s=900,
        custody=["broker", "hsm"],
        approvals=Approvals(threshold=2, approvers=[ALICE, BOB, CAROL]),
        conditions=["claims.guest_svn >= 3"],
    )


def snp_section(config: RuntimeConfig) -> Snp:
    """Accepts exactly the scenario's SNP platform."""
    return Snp(
        products=["Genoa", "Turin"],
        measurements=["11" * 48, "12" * 48],
        host_data=[config.digest().raw.hex()],
        id_blocks=[ID_BLOCK],
        vmpl=[0],
        guest_policy=GuestPolicy(
            abi_minor_min=55,
            abi_major_min=1,
            smt="allow",
            single_socket="required",
            cxl="deny",
            mem_aes_256_xts="required",
            rapl_dis="required",
            ciphertext_hiding="required",
            page_swap_disable="required",
        ),
        platform_info_required=["ALIAS_CHECK_COMPLETE", "ECC_EN"],
        tcb_minimum={"Genoa": TcbMinimum(fmc=0, bootloader=9, tee=0, snp=21, microcode=72)},
        firmware_minimum=FirmwareMinimum(major=1, minor=55, build=21),
        provisional_firmware="deny",
        mitigations_required=0b101,
        report_version_minimum=3,
        signing_keys=["vcek", "vlek"],
        csp_ids=["cloud-1"],
        chip_ids=["44" * 64],
        revocation="required",
    )


def changed(document: Document, path: str, value: Any) -> Document:  # noqa: ANN401 - any field of any document
    """A copy of a document with the field at the dotted path replaced."""
    name, _, rest = path.partition(".")
    new = changed(getattr(document, name), rest, value) if rest else value
    return msgspec.structs.replace(document, **{name: new})


@dataclass(frozen=True, slots=True)
class PolicyScenario:
    """A policy, claims and a context that fit together; every method returns a copy."""

    config: RuntimeConfig = field(default_factory=_config)
    policy: ReleasePolicy = field(default_factory=lambda: _policy(_config()))
    claims: Any = field(default_factory=lambda: _claims(_config()))  # of any TEE; SNP here
    age_s: float = 5.0
    model_id: ModelId = MODEL
    model_version: int = 7
    holders: int = 0
    approvals: frozenset[str] = frozenset((ALICE, CAROL))
    custody: str = "broker"

    def demand(self, path: str, value: Any) -> PolicyScenario:  # noqa: ANN401 - any field
        """Change the policy."""
        return replace(self, policy=changed(self.policy, path, value))

    def attest(self, **fields: Any) -> PolicyScenario:  # noqa: ANN401 - any claim
        """Change claims."""
        return replace(self, claims=replace(self.claims, mint=MINT, **fields))

    def configure(self, path: str, value: Any) -> PolicyScenario:  # noqa: ANN401 - any field
        """Change the runtime configuration, and launch with it."""
        config = changed(self.config, path, value)
        scenario = replace(self, config=config).attest(host_data=config.digest().raw)
        return scenario.demand("platform.snp.host_data", [config.digest().raw.hex()])

    def ask(self, **facts: Any) -> PolicyScenario:  # noqa: ANN401 - any fact
        """Change the context."""
        return replace(self, **facts)

    def context(self) -> ReleaseContext:
        """The facts of a release."""
        return ReleaseContext(
            now=NOW,
            challenge_age_s=self.age_s,
            runtime_config=self.config,
            model_id=self.model_id,
            model_version=self.model_version,
            active_holders=self.holders,
            approvals=self.approvals,
            custody=self.custody,
        )

    def client_policy(self) -> ClientPolicy:
        """The part of the policy that a client has too."""
        policy = self.policy
        return ClientPolicy(
            format=CLIENT_FORMAT,
            name=policy.name,
            model=policy.model,
            platform=policy.platform,
            freshness=policy.freshness,
            placement=policy.placement,
            runtime=policy.runtime,
            conditions=policy.conditions,
        )

    def verdict(self) -> Verdict:
        """Of the release policy."""
        return evaluate_release(self.policy, self.claims, self.context())

    def client_verdict(self) -> Verdict:
        """Of the client policy."""
        context = self.context()
        return evaluate_client(
            self.client_policy(),
            self.claims,
            ClientContext(
                now=context.now,
                challenge_age_s=context.challenge_age_s,
                runtime_config=context.runtime_config,
                model_id=context.model_id,
                model_version=context.model_version,
            ),
        )

    def codes(self) -> list[str]:
        """Names of the codes of the reasons; empty for Allow."""
        verdict = self.verdict()
        return [each.code.name for each in verdict.reasons] if isinstance(verdict, Deny) else []


Break = Callable[[PolicyScenario], PolicyScenario]
Breaks = Mapping[str, tuple[str, Break]]  # by name: the code that it deserves, and how it is made


def steps(*breaks: Break) -> Break:
    """One after the other."""
    return lambda scenario: reduce(lambda so_far, each: each(so_far), breaks, scenario)


def demand(path: str, value: Any) -> Break:  # noqa: ANN401 - any field
    """Change the policy."""
    return lambda scenario: scenario.demand(path, value)


def attest(**claims: Any) -> Break:  # noqa: ANN401 - any claim
    """Change claims."""
    return lambda scenario: scenario.attest(**claims)


def configure(path: str, value: Any) -> Break:  # noqa: ANN401 - any field
    """Change the runtime configuration, and launch with it."""
    return lambda scenario: scenario.configure(path, value)


def ask(**facts: Any) -> Break:  # noqa: ANN401 - any fact
    """Change the context."""
    return lambda scenario: scenario.ask(**facts)


def other_section(scenario: PolicyScenario, name: str, section: Any) -> PolicyScenario:  # noqa: ANN401 - any TEE's
    """With a policy whose only section is this one, without conditions.

    Args:
        scenario: on SEV-SNP.
        name: of the section.
        section: its words.
    """
    platform = f"platform.{name}"
    only = scenario.demand("platform.snp", None).demand(platform, section)
    return only.demand("conditions", [])


def common_breaks(section: str) -> dict[str, tuple[str, Break]]:
    """What is wrong with a platform of any TEE; ``section`` is the path of its section."""
    return {
        "simulated": ("SIMULATED_HARDWARE", attest(hardware=Hardware.SIMULATED)),
        "no_section": ("TEE_NOT_ACCEPTED", demand(section, None)),
        "late": ("COLLATERAL_LATE", attest(revocation=Revocation.GRACE)),
        "revocation": ("REVOCATION_UNKNOWN", attest(revocation=Revocation.UNKNOWN)),
    }
