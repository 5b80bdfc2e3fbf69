"""Manifests that somebody forged, spoiled or wrote wrongly; and keys of other models."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from regalia.core.codec import canonical_json
from regalia.core.errors import CoreCode, KeyAccessError
from regalia.core.secret import SecretBytes
from regalia.crypto.dsse import DsseCode, Envelope, parse_envelope, sign
from regalia.crypto.sign import SignCode, SigningKey
from regalia.seal.codes import SealCode
from regalia.seal.format.manifest import PAYLOAD_TYPE
from regalia.seal.format.sealed import SealedCode
from regalia.seal.manifest import (
    ANY_SIGNER,
    DANGEROUS_UNSIGNED,
    VerifiedManifest,
    peek_manifest,
    verify_manifest,
)
from regalia_testing.sealed import refused, refused_by_load

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.core.errors import Code
    from regalia.seal.manifest import Signers, Trusted
    from regalia_testing.sealed import KeptMemory, OwnedModel


def test_older_version(pristine: OwnedModel) -> None:
    pristine.verified(minimum_version=7)
    refused(SealCode.VERSION_ROLLBACK, lambda: pristine.verified(minimum_version=8))


def test_unsigned(sealed: OwnedModel) -> None:
    manifest = replace(sealed.manifest(), signer=None)
    data = sign(PAYLOAD_TYPE, manifest.encode(), ()).encode()
    for signers in ((sealed.owner.verify_key,), ANY_SIGNER):
        refused(
            DsseCode.UNSIGNED,
            lambda signers=signers: verify_manifest(data, signers=signers, minimum_version=1),
        )
    opened = verify_manifest(data, signers=DANGEROUS_UNSIGNED, minimum_version=1)
    assert opened.signer is None
    assert opened.trusted == "dangerous-unsigned"


@pytest.mark.parametrize("word", [ANY_SIGNER, DANGEROUS_UNSIGNED, None])
def test_signature_stripped(
    pristine: OwnedModel, word: Literal[Signers.ANY, Signers.DANGEROUS_UNSIGNED] | None
) -> None:
    """A manifest that names a signer needs the signature, even where unsigned ones pass."""
    data = sign(PAYLOAD_TYPE, pristine.manifest().encode(), ()).encode()
    trusted: Trusted = word or (pristine.owner.verify_key,)
    refused(DsseCode.UNSIGNED, lambda: verify_manifest(data, signers=trusted, minimum_version=1))


def test_empty_trust_trusts_nobody(pristine: OwnedModel) -> None:
    data = pristine.manifest_path.read_bytes()
    refused(DsseCode.SIGNER_UNKNOWN, lambda: verify_manifest(data, signers=(), minimum_version=1))


def test_signed_by_another(pristine: OwnedModel) -> None:
    mallory = SigningKey.generate_ed25519()
    manifest = replace(pristine.manifest(), signer=mallory.verify_key.spki)
    data = sign(PAYLOAD_TYPE, manifest.encode(), (mallory,)).encode()
    trusted = (pristine.owner.verify_key,)
    refused(
        DsseCode.SIGNER_UNKNOWN, lambda: verify_manifest(data, signers=trusted, minimum_version=1)
    )
    # With the wildcard it passes, and says whose signature it is.
    opened = verify_manifest(data, signers=ANY_SIGNER, minimum_version=1)
    assert opened.trusted == "any"
    assert opened.signer == mallory.verify_key.fingerprint


def test_forged_signature(pristine: OwnedModel) -> None:
    """Another's signature under the owner's name."""
    mallory = SigningKey.generate_ed25519()
    payload = pristine.manifest().encode()
    forged = sign(PAYLOAD_TYPE, payload, (mallory,)).signatures[0][1]
    name = str(pristine.owner.verify_key.fingerprint)
    data = Envelope(PAYLOAD_TYPE, payload, ((name, forged),)).encode()
    for signers in ((pristine.owner.verify_key,), ANY_SIGNER, DANGEROUS_UNSIGNED):
        refused(
            SignCode.SIGNATURE_INVALID,
            lambda signers=signers: verify_manifest(data, signers=signers, minimum_version=1),
        )


def test_signature_of_another_manifest(pristine: OwnedModel, twin: OwnedModel) -> None:
    envelope = parse_envelope(twin.manifest_path.read_bytes(), what="manifest")
    data = replace(envelope, unverified_payload=pristine.manifest().encode()).encode()
    refused(
        SignCode.SIGNATURE_INVALID,
        lambda: verify_manifest(data, signers=(twin.owner.verify_key,), minimum_version=1),
    )


def test_a_fingerprint_is_enough_to_trust(pristine: OwnedModel) -> None:
    fingerprint = pristine.owner.verify_key.fingerprint
    data = pristine.manifest_path.read_bytes()
    opened = verify_manifest(data, signers=(fingerprint,), minimum_version=1)
    assert opened.signer == fingerprint
    assert opened.trusted == "named"


def test_wrong_payload_type(pristine: OwnedModel) -> None:
    data = sign("application/json", pristine.manifest().encode(), (pristine.owner,)).encode()
    refused(DsseCode.WRONG_PAYLOAD_TYPE, lambda: peek_manifest(data))
    refused(
        DsseCode.WRONG_PAYLOAD_TYPE,
        lambda: verify_manifest(data, signers=ANY_SIGNER, minimum_version=1),
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: json.dumps(document).encode(),  # white space
        lambda document: canonical_json(document) + b"\n",
        lambda document: canonical_json({**document, "surprise": 1}),
        lambda document: canonical_json({k: v for k, v in document.items() if k != "version"}),
        lambda _: b"{}",
        lambda _: b"[]",
        lambda _: b"\xff",
    ],
)
def test_manifest_not_canonical(
    sealed: OwnedModel, spoil: Callable[[dict[str, object]], bytes]
) -> None:
    sealed.sign_payload(spoil(json.loads(sealed.manifest().encode())))
    refused(CoreCode.MALFORMED, sealed.verified)


ENTRY = {"digest": "sha256:" + 64 * "0", "prefix_digest": "sha256:" + 64 * "0", "size": 4112}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"format": "regalia/sealed-model/v2"}, SealedCode.SEALED_VERSION_UNKNOWN),
        ({"suite": "aes-256-gcm-siv"}, SealedCode.SEALED_SUITE_UNKNOWN),
        ({"version": 0}, CoreCode.MALFORMED),
        ({"version": 1 << 53}, CoreCode.MALFORMED),
        ({"stride": 65537}, CoreCode.MALFORMED),
        ({"stride": 1 << 20}, CoreCode.MALFORMED),
        ({"shard_chunks": 0}, CoreCode.MALFORMED),
        ({"shard_chunks": 65537}, CoreCode.MALFORMED),
        ({"shard_chunks": 1}, CoreCode.MALFORMED),
        ({"stream_size": -1}, CoreCode.MALFORMED),
        ({"stream_size": 262_307}, CoreCode.MALFORMED),
        ({"stream_size": (1 << 53) + 1}, CoreCode.MALFORMED),
        ({"stream_size": 1 << 53}, CoreCode.TOO_LARGE),
        ({"shards": []}, CoreCode.MALFORMED),
        ({"shards": [ENTRY]}, CoreCode.MALFORMED),
        ({"index": {**ENTRY, "size": 1 << 40}}, CoreCode.TOO_LARGE),
        ({"index": {**ENTRY, "size": -1}}, CoreCode.MALFORMED),
        ({"index": {**ENTRY, "digest": "md5:00"}}, CoreCode.MALFORMED),
        ({"model_id": "model:00"}, CoreCode.MALFORMED),
        ({"model_id": "sha256:" + 64 * "0"}, CoreCode.MALFORMED),
        ({"seal_id": "seal:" + 64 * "A"}, CoreCode.MALFORMED),
        ({"signer": "!"}, CoreCode.MALFORMED),
        ({"signer": "AAAA"}, SignCode.PUBLIC_KEY_MALFORMED),
        ({"wrapped_key": {"kek": "", "algorithm": "a", "blob": "AA=="}}, CoreCode.MALFORMED),
        ({"wrapped_key": {"kek": "\x1b", "algorithm": "a", "blob": "AA=="}}, CoreCode.MALFORMED),
        ({"wrapped_key": {"kek": "ü", "algorithm": "a", "blob": "AA=="}}, CoreCode.MALFORMED),
        ({"wrapped_key": {"kek": "k", "algorithm": "ü", "blob": "AA=="}}, CoreCode.MALFORMED),
        ({"wrapped_key": {"kek": "k", "algorithm": "a" * 65, "blob": "AA=="}}, CoreCode.TOO_LARGE),
        ({"wrapped_key": {"kek": "k" * 257, "algorithm": "a", "blob": "AA=="}}, CoreCode.TOO_LARGE),
        ({"wrapped_key": {"kek": "k", "algorithm": "a", "blob": ""}}, CoreCode.MALFORMED),
        ({"wrapped_key": {"kek": "k", "algorithm": "a", "blob": "A" * 8000}}, CoreCode.TOO_LARGE),
    ],
    ids=str,
)
def test_manifest_field(sealed: OwnedModel, fields: dict[str, object], code: Code) -> None:
    sealed.resign_raw(**fields)
    refused(code, sealed.verified)


@pytest.mark.parametrize("less", ["stride", "shards", "wrapped_key"])
def test_another_version_is_called_so_whatever_members_it_has(
    sealed: OwnedModel, less: str
) -> None:
    """It is not damaged, and fetching it again would not help."""
    fields = json.loads(sealed.manifest().encode())
    for changes, code in (
        ({"format": "regalia/sealed-model/v2"}, SealedCode.SEALED_VERSION_UNKNOWN),
        ({"suite": "aes-256-gcm-siv"}, SealedCode.SEALED_SUITE_UNKNOWN),
        ({}, CoreCode.MALFORMED),
    ):
        other = {name: value for name, value in fields.items() if name != less}
        sealed.sign_payload(canonical_json(other | changes | {"tensors": []}))
        refused(code, sealed.verified)


def test_oversized_manifest(sealed: OwnedModel) -> None:
    sealed.resign_raw(format="x" * (9 << 20))
    refused(CoreCode.TOO_LARGE, sealed.verified)


def test_manifest_cannot_be_made_by_hand(pristine: OwnedModel) -> None:
    good = pristine.verified()
    with pytest.raises(TypeError):
        VerifiedManifest(good.content, good.signer, good.trusted, good.digest, mint=object())
    with pytest.raises((TypeError, ValueError)):
        replace(good, signer=None)


# --- the key


def test_wrong_key(pristine: OwnedModel, twin: OwnedModel, memory: KeptMemory) -> None:
    stranger = replace(pristine, key=twin.key)
    with pytest.raises(KeyAccessError) as caught:
        stranger.load(memory)
    assert caught.value.code is SealCode.WRONG_MODEL_KEY
    assert memory.allocated == 0


def test_key_with_one_bit_flipped(pristine: OwnedModel, memory: KeptMemory) -> None:
    key = bytearray(pristine.key.view())
    key[31] ^= 0x80
    stranger = replace(pristine, key=SecretBytes(key))
    refused_by_load(stranger, memory, SealCode.WRONG_MODEL_KEY)
