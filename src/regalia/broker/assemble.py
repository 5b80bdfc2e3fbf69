"""Assembles a broker from its configuration. Every configured file is read here, once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from regalia.broker.administration import Administration
from regalia.broker.appraise import Appraiser
from regalia.broker.challenges import ChallengeStore
from regalia.broker.collateral import (
    CollateralFloors,
    is_folder,
    longest_grace,
    read_bundle,
    read_collateral,
)
from regalia.broker.config import SIMULATED_ANCHOR
from regalia.broker.denials import DenialCounter
from regalia.broker.floors import FloorStore
from regalia.broker.leases import LeaseStore
from regalia.broker.metrics import Metrics
from regalia.broker.models import ModelFiles, by_id, load_model
from regalia.broker.peers import Peers
from regalia.broker.proposals import ProposalStore
from regalia.broker.reconcile import begin
from regalia.broker.recover import recover
from regalia.broker.service import Broker
from regalia.broker.state import create_tables
from regalia.broker.statement_floors import StatementFloors
from regalia.broker.tenants import Tenants
from regalia.broker.watermarks import LogWatch
from regalia.control.verify import read_unverified
from regalia.core.errors import CoreCode, RegaliaError, UsageError
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.crypto.sign import SigningKey, VerifyKey
from regalia.host import plugins
from regalia.host.clock import system_clock
from regalia.host.events import ServiceEvent, emit
from regalia.host.localfs import read_file, read_private_file
from regalia.host.numbered import read_numbered
from regalia.keys.base import Kit
from regalia.tlog.database import open_engine
from regalia.tlog.log import Log
from regalia.tlog.note import verifier_key_text
from regalia.verifier.anchors import TrustAnchors
from regalia.verifier.collateral import parse_roots
from regalia.verifier.verifier import Verifier
from regalia.wire.approval import LIMIT as APPROVAL_LIMIT
from regalia.wire.statement import ENVELOPE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from regalia.broker.config import BrokerConfig, ModelSection, TenantSection
    from regalia.broker.models import ServedModel
    from regalia.broker.recover import Loss
    from regalia.core.secret import SecretBytes
    from regalia.keys.base import KeyStore
    from regalia.verifier.anchors import MakeSimulatedAnchors
    from regalia.verifier.collateral import CollateralSet, VerifiedBundle

_KEY_LIMIT = 16 * 1024  # bytes of PEM
_CERTIFICATE_LIMIT = 64 * 1024  # bytes of DER or PEM


@dataclass(frozen=True, slots=True)
class Documents:
    """Everything that a configuration names except its databases, read and verified."""

    signer: SigningKey
    log_key: str
    store: KeyStore
    appraiser: Appraiser
    models: dict[str, ServedModel]
    banners: tuple[str, ...]
    bundle: VerifiedBundle | None  # None if collateral is loose files


@dataclass(frozen=True, slots=True)
class ReadyBroker:
    """A broker that can serve, and the warnings that its operator must see."""

    broker: Broker
    metrics: Metrics
    banners: tuple[str, ...]
    engines: tuple[Engine, ...]

    def close(self) -> None:
        """Wipe the key store's secrets, tell the log what was only counted, close the databases."""
        self.broker.keys.close()
        try:
            self.broker.tell(self.broker.clock(), after=timedelta(0))
        except RegaliaError as exc:
            emit(ServiceEvent.RELEASE_FAILED, code=exc.code.name, what=exc.what)
        for engine in self.engines:
            engine.dispose()


@dataclass(frozen=True, slots=True)
class Assembler:
    """Reads and verifies everything that a configuration names.

    Attributes:
        config: the settings.
        folder: folder that relative paths in the settings start from.
        ask: returns a passphrase. Its arguments are the purpose to show in a prompt, and the
            file to read the passphrase from, or None to prompt for it.
    """

    config: BrokerConfig
    folder: Path
    ask: Callable[[str, Path | None], SecretBytes]

    def load(self) -> Documents:
        """Read and verify everything that needs no database. Changes nothing.

        Raises:
            RegaliaError: a document is missing, malformed, not signed by the owner, or does not
                belong to the others.
        """
        collateral, bundle = self._collateral()
        appraiser = self._appraiser(collateral)
        files = [self._model_files(section) for section in self.config.models]
        signer, in_clear = self._log_key()
        key = verifier_key_text(self.config.log.origin, signer.verify_key)
        store = self._key_store()
        try:
            models = by_id(tuple(load_model(each, store=store, log_key=key) for each in files))
            grace = longest_grace(model.policy for model in models.values())
            collateral.require_fresh(system_clock(), grace)
        except BaseException:
            store.close()
            raise
        banners = _banners(self.config, store, tuple(models.values()), log_key_in_clear=in_clear)
        return Documents(signer, key, store, appraiser, models, banners, bundle)

    def assemble(self) -> ReadyBroker:
        """Load all documents, open and compare the databases, and adopt the policies.

        Raises:
            RegaliaError: as ``load``, or a database cannot be used, state and log do not agree,
                or a document is older than one that was served before.
        """
        found, config, metrics = self.load(), self.config, Metrics()
        engines: list[Engine] = []
        try:
            self._open_databases(engines)
            if found.bundle is not None:
                CollateralFloors(engines[0]).raise_to(found.bundle)
            floors = FloorStore(engines[0])
            log = Log(engines[1], origin=config.log.origin, key=found.signer)
            seen = begin(engines[0], log, system_clock())
            for model in found.models.values():
                floors.adopt(model.versions)
        except BaseException:
            found.store.close()
            for engine in engines:
                engine.dispose()
            raise
        limits, leases = config.limits, LeaseStore(engines[0])
        watch = LogWatch(engines[0])
        peers = Peers(limits.peer_refusals, leases.held(system_clock()))
        administration = Administration(
            tenants=Tenants(log, self._charters(), StatementFloors(engines[0])),
            proposals=ProposalStore(engines[0]),
            log=log,
            seen=watch,
            peers=peers,
            clock=system_clock,
        )
        broker = Broker(
            models=found.models,
            appraiser=found.appraiser,
            challenges=ChallengeStore(
                engines[0],
                key=seen.challenge_key,
                audience=config.log.origin,
                ttl_s=limits.challenge_ttl_s,
            ),
            leases=leases,
            floors=floors,
            log=log,
            seen=watch,
            peers=peers,
            administration=administration,
            denials=DenialCounter(limits.denials_logged),
            keys=found.store,
            clock=system_clock,
            watch=metrics,
        )
        ready = ReadyBroker(broker, metrics, found.banners, tuple(engines))
        try:
            self._take_statements(administration)
        except BaseException:
            ready.close()
            raise
        return ready

    def _charters(self) -> dict[str, Digest]:
        return {each.name: Digest.parse(each.charter) for each in self.config.tenants}

    def _take_statements(self, administration: Administration) -> None:
        """Take the statements in tenants' folders that are not in the log yet, in their order."""
        for section in self.config.tenants:
            state = administration.tenants.state(section.name)
            known = 0 if state is None else state.sequence
            for data in self._statements(section):
                _, statement = read_unverified(data)
                if statement.sequence > known:
                    administration.take(data, system_clock())

    def _statements(self, section: TenantSection) -> list[bytes]:
        if section.statements is None:
            return []
        return read_numbered(self._path(section.statements), limit=ENVELOPE_LIMIT)

    def recover(self, loss: Loss) -> str:
        """Accept that state, log or clock went back; see ``broker.recover``. Opens no key store.

        Raises:
            UsageError: NOTHING_TO_RECOVER.
            RegaliaError: something else is wrong than what is accepted; nothing was changed.
        """
        engines: list[Engine] = []
        signer, _ = self._log_key()
        try:
            self._open_databases(engines)
            log = Log(engines[1], origin=self.config.log.origin, key=signer)
            return recover(engines[0], log, loss, system_clock())
        finally:
            for engine in engines:
                engine.dispose()

    def _open_databases(self, engines: list[Engine]) -> None:
        """Append the engines of state and log, so that the caller closes what was opened."""
        for url in (self.config.state.database, self.config.log.database):
            engines.append(self._engine(url))  # noqa: PERF401 - the first is closed if the second fails
        create_tables(engines[0])

    def _path(self, text: str) -> Path:
        return self.folder / text

    def _engine(self, url: str) -> Engine:
        """Open a database. A relative SQLite path starts from the configuration's folder."""
        try:
            parsed = sa.make_url(url)
        except (ArgumentError, ValueError) as exc:  # ValueError: the port is not a number
            # The URL may contain a password, so the message must not repeat it.
            raise UsageError(CoreCode.BAD_CONFIG, "database: not a URL") from exc
        name = parsed.database
        if parsed.get_backend_name() == "sqlite" and name and not name.startswith("file:"):
            parsed = parsed.set(database=str(self._path(name)))
        return open_engine(parsed.render_as_string(hide_password=False))

    def _log_key(self) -> tuple[SigningKey, bool]:
        """The log's key, and whether its file is not encrypted."""
        section = self.config.log
        pem = read_private_file(self._path(section.key), limit=_KEY_LIMIT)
        if b"ENCRYPTED" not in pem:
            return SigningKey.from_pem(pem, None), True
        with self.ask("log key", self._optional(section.passphrase_file)) as passphrase:
            return SigningKey.from_pem(pem, passphrase), False

    def _key_store(self) -> KeyStore:
        section = self.config.keys
        scheme, colon, location = section.store.partition(":")
        if not colon or not location:
            raise UsageError(
                CoreCode.BAD_CONFIG, f"keys.store {section.store!r}: want SCHEME:LOCATION"
            )
        kit = plugins.load(plugins.KEY_STORES, scheme)
        if not isinstance(kit, Kit):
            raise UsageError(CoreCode.PLUGIN_UNKNOWN, f"key store {scheme!r} is no Kit")
        if kit.asks is None:
            return kit.open(location, self.folder, None)
        with self.ask(f"key store's {kit.asks}", self._optional(section.passphrase_file)) as secret:
            return kit.open(location, self.folder, secret)

    def _optional(self, text: str | None) -> Path | None:
        return None if text is None else self._path(text)

    def _collateral(self) -> tuple[CollateralSet, VerifiedBundle | None]:
        section = self.config.attest
        path = self._path(section.collateral)
        if is_folder(path, section):
            return read_collateral(path), None
        signers = self._public_keys(section.collateral_signers)
        bundle = read_bundle(path, section, signers, system_clock())
        return bundle.collateral, bundle

    def _appraiser(self, collateral: CollateralSet) -> Appraiser:
        section = self.config.attest
        anchors = TrustAnchors.production()
        if section.dangerous_simulated_anchor is not None:
            path = self._path(section.dangerous_simulated_anchor)
            loaded = plugins.load_simulated_anchors(SIMULATED_ANCHOR)
            make = cast("MakeSimulatedAnchors", loaded)
            anchors = make(parse_roots(read_file(path, limit=_CERTIFICATE_LIMIT), what=str(path)))
        return Appraiser(
            verifier=Verifier(anchors, collateral),
            audience=self.config.log.origin,
        )

    def _model_files(self, section: ModelSection) -> ModelFiles:
        return ModelFiles(
            manifest=read_file(self._path(section.manifest), limit=dsse.LIMIT),
            policy=read_file(self._path(section.policy), limit=dsse.LIMIT),
            owner_keys=self._public_keys(section.owner_keys),
            owner_threshold=section.owner_threshold,
            approvals={
                # The limit is for the payload; base64 and signatures make the envelope larger.
                name: read_file(self._path(name), limit=4 * APPROVAL_LIMIT)
                for name in section.approvals
            },
            approver_keys=self._public_keys(section.approver_keys),
            tenant=section.tenant,
        )

    def _public_keys(self, names: list[str]) -> tuple[VerifyKey, ...]:
        return tuple(
            VerifyKey.from_pem(read_file(self._path(name), limit=_KEY_LIMIT)) for name in names
        )


def _banners(
    config: BrokerConfig,
    store: KeyStore,
    models: tuple[ServedModel, ...],
    *,
    log_key_in_clear: bool,
) -> tuple[str, ...]:
    """Warnings about settings that lower protection, shown at every start."""
    banners = [
        f"DANGEROUS: {name} is set: evidence of a simulated platform is believed. Nothing is "
        "protected from whoever holds that platform's keys."
        for name in config.dangers()
    ]
    if log_key_in_clear:
        banners.append(
            "The log's signing key is not encrypted: whoever copies the file can write another "
            "history. Make one with a passphrase: `regalia keygen log`."
        )
    if store.banner is not None:
        banners.append(store.banner)
    banners += [
        f"DANGEROUS: policy {model.policy.name!r} releases to simulated hardware."
        for model in models
        if model.policy.platform.hardware == "dangerous_simulated"
    ]
    banners += [
        f"DANGEROUS: policy {model.policy.name!r} accepts collateral that is up to "
        f"{model.policy.platform.dangerous_collateral_grace_days} days late."
        for model in models
        if model.policy.platform.dangerous_collateral_grace_days
    ]
    return tuple(banners)
