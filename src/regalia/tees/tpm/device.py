"""A local TPM 2.0, through the TSS (tpm2-pytss, ESAPI).

A TPM without a resource manager has three slots for keys and three for sessions, so every
handle is flushed where it was opened. All keys here are primary keys of the endorsement
hierarchy made from fixed templates: the same TPM makes the same key again, and nothing needs to
be stored.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_SE,
    TPM2B_DATA,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
    TPMT_HA,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TPMU_HA,
    TSS2_Exception,
)
from tpm2_pytss.utils import NoSuchIndex, NVReadEK, create_ek_template

from regalia.core.errors import LocalError, UnavailableError
from regalia.tees.tpm.evidence.document import TpmQuote
from regalia.tees.tpm.evidence.layout import HashAlg, sized
from regalia.tees.tpm.evidence.public import Attribute, parse_public
from regalia.tees.tpm.evidence.wire import SELECT_MIN
from regalia.tees.tpm.source_codes import TpmSourceCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tpm2_pytss import TPMT_PUBLIC

    from regalia.tees.tpm.evidence.public import PublicArea

PCR_COUNT = 8 * SELECT_MIN
BANKS = (HashAlg.SHA256, HashAlg.SHA384)
NV_PART = 512  # bytes of one TPM2_NV_Read; every TPM gives at least so many at once
QUOTE_TRIES = 4  # a register may change between TPM2_Quote and TPM2_PCR_Read

# NV indices of EK certificates and the templates they are for (TCG EK Credential Profile 2.x,
# 2.2.1.4 and 2.2.1.5), the strongest first.
EK_KINDS = (
    (0x01C00016, "EK-HIGH-ECC384"),
    (0x01C0000A, "EK-ECC256"),
    (0x01C00002, "EK-RSA2048"),
)
EK_CHAIN_INDICES = range(0x01C00100, 0x01C00200)
_NV_FIRST = 0x01000000
_HANDLES_MAX = 254
_DER_SEQUENCE = 0x30
_DER_TWO_LENGTH_BYTES = 0x82  # every certificate has 256 to 65535 bytes
_DER_HEAD = 4  # bytes of tag and length


@dataclass(frozen=True, slots=True)
class Ek:
    """An endorsement key as its TPM shows it."""

    public: bytes  # TPMT_PUBLIC
    certificates: tuple[bytes, ...]  # DER; the EK's, then what the TPM holds of its issuers
    template: bytes  # TPM2B_PUBLIC that makes it again


class TpmDevice:
    """One open TPM. A context manager; not shared between threads."""

    def __init__(self, esapi: ESAPI) -> None:
        self._esapi = esapi

    @classmethod
    def open(cls, tcti: str) -> Self:
        """Open a TPM by its TCTI, such as ``device:/dev/tpmrm0``.

        Raises:
            UnavailableError: TPM_UNREACHABLE.
        """
        try:
            return cls(ESAPI(tcti))
        except (TSS2_Exception, RuntimeError) as exc:
            raise UnavailableError(TpmSourceCode.TPM_UNREACHABLE, f"TPM {tcti}: {exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._esapi.close()

    def ek(self, kinds: Sequence[tuple[int, str]] = EK_KINDS) -> Ek:
        """The first kind of EK that has a certificate; by default the strongest.

        Raises:
            LocalError: EK_CERTIFICATE_ABSENT or TPM_COMMAND_FAILED.
        """
        with _commands():
            present = self._nv_indices()
            for index, kind in kinds:
                if index in present:
                    return self._ek(kind, present)
        raise LocalError(
            TpmSourceCode.EK_CERTIFICATE_ABSENT, "the TPM holds no EK certificate of a known kind"
        )

    def _ek(self, kind: str, present: frozenset[int]) -> Ek:
        reader = NVReadEK(self._esapi)
        certificate, template = create_ek_template(kind, _absent_as_error(reader, present))
        with self._primary(template) as (_, public):
            area = bytes(public.publicArea.marshal())
        chain = b"".join(reader(index) for index in sorted(present & set(EK_CHAIN_INDICES)))
        certificates = (*_certificates(certificate)[:1], *_certificates(chain))
        return Ek(area, certificates, sized(bytes(template.publicArea.marshal())))

    def attestation_key(self, template: PublicArea) -> PublicArea:
        """The AK that this template makes in this TPM. Raises LocalError TPM_COMMAND_FAILED."""
        with _commands(), self._primary(_template(template)) as (_, public):
            return parse_public(bytes(public.publicArea.marshal()))

    def pcrs(self, bank: HashAlg) -> dict[int, bytes]:
        """All registers of a bank. Raises LocalError TPM_COMMAND_FAILED."""
        found: dict[int, bytes] = {}
        with _commands():
            while len(found) < PCR_COUNT:
                wanted = [i for i in range(PCR_COUNT) if i not in found]
                _, selected, digests = self._esapi.pcr_read(_selection(bank, wanted))
                read = [i for i in wanted if _selects(selected, i)]
                if not read:
                    raise LocalError(
                        TpmSourceCode.TPM_COMMAND_FAILED, f"the TPM has no {bank.label} bank"
                    )
                values = [bytes(digests[i]) for i in range(len(read))]
                found.update(zip(read, values, strict=True))
        return found

    def banks(self) -> tuple[HashAlg, ...]:
        """Banks that are active."""
        with _commands():
            _, capability = self._esapi.get_capability(TPM2_CAP.PCRS, 0, 1)
            assigned = capability.data.assignedPCR
            active = {
                int(assigned[i].hash)
                for i in range(assigned.count)
                if any(bytes(assigned[i].pcrSelect))
            }
        return tuple(bank for bank in HashAlg if bank in active)

    def extend(self, pcr: int, data: bytes) -> None:
        """Extend a register with the digest of ``data``, in every active bank.

        Args:
            pcr: the register's number.
            data: of any length; each bank is extended with its own digest of it.

        Raises:
            LocalError: TPM_COMMAND_FAILED.
        """
        values = [
            TPMT_HA(hashAlg=TPM2_ALG(bank), digest=TPMU_HA(**{bank.label: bank.digest(data)}))
            for bank in self.banks()
        ]
        with _commands():
            self._esapi.pcr_extend(ESYS_TR(pcr), TPML_DIGEST_VALUES(values))

    def quote(self, ak: PublicArea, data: bytes, bank: HashAlg) -> TpmQuote:
        """Quote all registers of a bank over ``data``, with their values.

        Args:
            ak: template of the key that signs.
            data: the qualifying data.
            bank: SHA-256 or SHA-384.

        Raises:
            LocalError: TPM_COMMAND_FAILED.
        """
        with _commands(), self._primary(_template(ak)) as (handle, public):
            return self._quote(handle, public, data, bank)

    def quote_by_handle(self, persistent: int, data: bytes, bank: HashAlg) -> TpmQuote:
        """The same by a key that the TPM's maker left in it.

        Args:
            persistent: the key's handle.
            data: the qualifying data.
            bank: SHA-256 or SHA-384.

        Raises:
            LocalError: TPM_COMMAND_FAILED.
        """
        with _commands():
            handle = self._esapi.tr_from_tpmpublic(persistent)
            try:
                public, _, _ = self._esapi.read_public(handle)
                return self._quote(handle, public, data, bank)
            finally:
                self._esapi.tr_close(handle)

    def _quote(self, handle: ESYS_TR, public: TPM2B_PUBLIC, data: bytes, bank: HashAlg) -> TpmQuote:
        """Quote and read until both show the same registers. Raises LocalError."""
        for _ in range(QUOTE_TRIES):
            before = self.pcrs(bank)
            attest, signature = self._esapi.quote(
                handle,
                _selection(bank, list(range(PCR_COUNT))),
                TPM2B_DATA(data),
                TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),
            )
            if self.pcrs(bank) == before:
                area = bytes(public.publicArea.marshal())
                return TpmQuote(bytes(attest), bytes(signature.marshal()), area, {bank: before})
        raise LocalError(TpmSourceCode.TPM_COMMAND_FAILED, "the registers change all the time")

    def nv(self, index: int) -> bytes | None:
        """What an NV index holds that the owner may read; None if there is no such index.

        Raises:
            LocalError: TPM_COMMAND_FAILED.
        """
        with _commands():
            if index not in self._nv_indices():
                return None
            handle = self._esapi.tr_from_tpmpublic(index)
            try:
                public, _ = self._esapi.nv_read_public(handle)
                size = int(public.nvPublic.dataSize)
                parts = [
                    bytes(
                        self._esapi.nv_read(
                            handle, min(NV_PART, size - at), at, auth_handle=ESYS_TR.OWNER
                        )
                    )
                    for at in range(0, size, NV_PART)
                ]
                return b"".join(parts)
            finally:
                self._esapi.tr_close(handle)

    def activate(self, ek: Ek, ak: PublicArea, id_object: bytes, secret: bytes) -> bytes:
        """TPM2_ActivateCredential: the secret, if it is for this EK and this AK.

        Args:
            ek: from ``ek()``.
            ak: template of the AK.
            id_object: TPM2B_ID_OBJECT.
            secret: TPM2B_ENCRYPTED_SECRET.

        Raises:
            LocalError: TPM_COMMAND_FAILED, also if the credential is for another key.
        """
        blob, _ = TPM2B_ID_OBJECT.unmarshal(id_object)
        encrypted, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(secret)
        template, _ = TPM2B_PUBLIC.unmarshal(ek.template)
        with (
            _commands(),
            self._primary(_template(ak)) as (ak_handle, _),
            self._primary(template) as (ek_handle, ek_public),
            self._authorization(ek_public.publicArea) as session,
        ):
            opened = self._esapi.activate_credential(
                ak_handle,
                ek_handle,
                blob,
                encrypted,
                session1=ESYS_TR.PASSWORD,
                session2=session,
            )
        return bytes(opened)

    @contextmanager
    def _primary(self, template: TPM2B_PUBLIC) -> Iterator[tuple[ESYS_TR, TPM2B_PUBLIC]]:
        """A primary key of the endorsement hierarchy: its handle and public area."""
        handle, public, *_ = self._esapi.create_primary(
            TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.ENDORSEMENT
        )
        try:
            yield handle, public
        finally:
            self._esapi.flush_context(handle)

    @contextmanager
    def _authorization(self, public: TPMT_PUBLIC) -> Iterator[ESYS_TR]:
        """What the EK profile's templates ask of the key's user.

        The high-range ones take the empty password; the low-range ones policy A: whoever may use
        the endorsement hierarchy.
        """
        if int(public.objectAttributes) & Attribute.USER_WITH_AUTH:
            yield ESYS_TR.PASSWORD
            return
        session = self._esapi.start_auth_session(
            ESYS_TR.NONE,
            ESYS_TR.NONE,
            TPM2_SE.POLICY,
            TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
            TPM2_ALG(int(public.nameAlg)),
        )
        try:
            self._esapi.policy_secret(ESYS_TR.ENDORSEMENT, session, expiration=0)
            yield session
        finally:
            self._esapi.flush_context(session)

    def _nv_indices(self) -> frozenset[int]:
        _, capability = self._esapi.get_capability(TPM2_CAP.HANDLES, _NV_FIRST, _HANDLES_MAX)
        handles = capability.data.handles
        return frozenset(int(handles[i]) for i in range(handles.count))


@contextmanager
def _commands() -> Iterator[None]:
    """What the TPM refuses becomes a LocalError with its response code."""
    try:
        yield
    except TSS2_Exception as exc:
        raise LocalError(TpmSourceCode.TPM_COMMAND_FAILED, f"the TPM refused: {exc}") from exc


def _template(public: PublicArea) -> TPM2B_PUBLIC:
    template, _ = TPM2B_PUBLIC.unmarshal(sized(public.encode()))
    return template


def _selection(bank: HashAlg, pcrs: list[int]) -> TPML_PCR_SELECTION:
    return TPML_PCR_SELECTION.parse(f"{bank.label}:{','.join(str(pcr) for pcr in pcrs)}")


def _selects(selection: TPML_PCR_SELECTION, pcr: int) -> bool:
    """Whether the first bank of a TPML_PCR_SELECTION names the register."""
    if not selection.count:
        return False
    bitmap = bytes(selection[0].pcrSelect)
    return bool(bitmap[pcr // 8] >> pcr % 8 & 1)


def _absent_as_error(reader: NVReadEK, present: frozenset[int]) -> Callable[[int], bytes]:
    """Asking for an absent index makes the TSS write to standard error, so do not ask."""

    def read(index: int) -> bytes:
        if int(index) not in present:
            raise NoSuchIndex(index)
        return bytes(reader(index))

    return read


def _certificates(data: bytes) -> tuple[bytes, ...]:
    """DER certificates one after another; what pads an NV index after them is dropped."""
    found: list[bytes] = []
    while len(data) > _DER_HEAD and data[0] == _DER_SEQUENCE and data[1] == _DER_TWO_LENGTH_BYTES:
        end = _DER_HEAD + int.from_bytes(data[2:_DER_HEAD], "big")
        found.append(data[:end])
        data = data[end:]
    return tuple(found)
