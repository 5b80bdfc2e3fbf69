"""The key store ``aws-kms``, against a double that verifies enclaves and enforces key policies."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import CoreCode, KeyAccessError, PolicyDenied, RegaliaError, UsageError
from regalia.crypto.key_wrapping import open_wrapped
from regalia.host.clock import system_clock
from regalia.keys.aws_kms.address import parse_address
from regalia.keys.aws_kms.codes import AwsKmsCode
from regalia.keys.aws_kms.connection import Connection
from regalia.keys.aws_kms.plugin import KIT
from regalia.keys.aws_kms.store import AwsKmsKeyStore
from regalia.keys.base import Recipient
from regalia.keys.codes import KeysCode
from regalia.keys.service_codes import KeyServiceCode
from regalia.wire.cbor import encode_cbor
from regalia_testing.kms.server import running
from regalia_testing.kms.service import KmsError, KmsKey, KmsService
from regalia_testing.tees.nitro.simulator import NitroSimulator
from tests.keys.asking import (
    CONTEXT,
    MODEL_KEY,
    OTHER_CONTEXT,
    logged,
    recipient,
    runtime_key,
    secret,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.core.errors import Code
    from regalia.core.secret import SecretBytes
    from regalia_testing.kms.server import RunningKms

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/aws-kms.md").read_text(encoding="utf-8")
POLICY, IAM = (
    json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
REGION = "eu-central-1"
OWNER, BROKER, STRANGER = "AKIDOWNER", "AKIDBROKER", "AKIDSTRANGER"
IMAGE = b"p" * 48


def statements() -> list[dict[str, Any]]:
    """The how-to's key policy, for the callers and the enclave of these tests."""
    text = json.dumps(POLICY["Statement"])
    for name, caller in (("regalia-owner", OWNER), ("regalia-broker", BROKER)):
        text = text.replace(f"arn:aws:iam::111122223333:role/{name}", caller)
    return json.loads(text.replace("PCR0-OF-YOUR-ENCLAVE", IMAGE.hex()))


@pytest.fixture(scope="module")
def enclave(tmp_path_factory: pytest.TempPathFactory) -> NitroSimulator:
    folder = tmp_path_factory.mktemp("nitro") / "platform"
    return NitroSimulator.create(folder, clock=system_clock)


@pytest.fixture
def kms(enclave: NitroSimulator) -> Iterator[RunningKms]:
    key = KmsKey(REGION, "smollm2", statements())
    service = KmsService(REGION, enclave.anchors(), system_clock, [key])
    with running(service, OWNER, BROKER) as server:
        yield server


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of tests")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return lambda caller: monkeypatch.setenv("AWS_ACCESS_KEY_ID", caller)


def opened(kms: RunningKms, region: str = REGION) -> AwsKmsKeyStore:
    address = parse_address(f"{region}?endpoint={kms.url}", ROOT)
    return AwsKmsKeyStore(Connection(address, pause=lambda _: None))


@pytest.fixture
def owner(kms: RunningKms, login: Callable[[str], None]) -> Iterator[AwsKmsKeyStore]:
    login(OWNER)
    with opened(kms) as store:
        yield store


@pytest.fixture
def blob(owner: AwsKmsKeyStore) -> bytes:
    return owner.wrap("smollm2", secret(), CONTEXT)


@pytest.fixture
def broker(
    kms: RunningKms,
    blob: bytes,  # noqa: ARG001 - the owner logs in first
    login: Callable[[str], None],
) -> Iterator[AwsKmsKeyStore]:
    login(BROKER)
    with opened(kms) as store:
        yield store


def document(
    enclave: NitroSimulator, image: bytes = IMAGE, key: bytes | None = b"", age_s: int = 0
) -> Recipient:
    """A runtime in an enclave, whose document shows its key unless another one is given."""
    spki = recipient().wrap_public_key
    now = enclave.clock() - timedelta(seconds=age_s)
    pcrs = enclave.pcrs(image, b"configuration")
    fields = enclave.fields(b"n" * 64, pcrs=pcrs, certificate=enclave.fixed_leaf(), now=now)
    fields["public_key"] = spki if key == b"" else key
    return Recipient(spki, "aws-nitro", enclave.sign(encode_cbor(fields)))


def released(store: AwsKmsKeyStore, blob: bytes, to: Recipient) -> SecretBytes:
    store.require_recipient(to)
    return store.rewrap_logged("smollm2", blob, CONTEXT, recipient=to, logged=logged())


def refusal(act: Callable[[], object]) -> Code:
    with pytest.raises(RegaliaError) as caught:
        act()
    assert MODEL_KEY.hex() not in caught.value.explain()
    assert base64.b64encode(MODEL_KEY).decode() not in caught.value.explain()
    return caught.value.code


def test_only_the_enclave_can_open_the_answer(
    broker: AwsKmsKeyStore, blob: bytes, enclave: NitroSimulator
) -> None:
    assert (broker.custody, broker.banner) == ("kms", None)
    with released(broker, blob, document(enclave)) as wrapped:
        assert MODEL_KEY not in bytes(wrapped.view())
        with open_wrapped(broker.key_wrapping, wrapped, runtime_key()) as key:
            assert key.matches(secret())


def test_the_how_tos_policy_refuses_other_enclaves_and_callers(
    broker: AwsKmsKeyStore, owner: AwsKmsKeyStore, blob: bytes, enclave: NitroSimulator
) -> None:
    denied = KeyServiceCode.KEY_SERVICE_NOT_ALLOWED
    assert refusal(lambda: released(broker, blob, document(enclave, b"q" * 48))) is denied
    assert refusal(lambda: released(owner, blob, document(enclave))) is denied
    assert refusal(lambda: broker.wrap("smollm2", secret(), CONTEXT)) is denied
    for store in (broker, owner):
        code = refusal(lambda s=store: s.recover_for_owner("smollm2", blob, CONTEXT))
        assert code is KeysCode.OWNER_CANNOT_RECOVER


def test_the_nitro_tpm_name_is_no_name_of_an_enclave(
    kms: RunningKms, broker: AwsKmsKeyStore, blob: bytes, enclave: NitroSimulator
) -> None:
    (statement,) = (s for s in kms.service.keys[0].policy if "Condition" in s)
    for name, allowed in (("PCR0", True), ("NitroTPMPCR0", False)):
        condition = {f"kms:RecipientAttestation:{name}": IMAGE.hex()}
        statement["Condition"] = {"StringEqualsIgnoreCase": condition}
        if allowed:
            released(broker, blob, document(enclave)).close()
        else:
            code = refusal(lambda: released(broker, blob, document(enclave)))
            assert code is KeyServiceCode.KEY_SERVICE_NOT_ALLOWED


def test_recipients_that_kms_cannot_serve(
    broker: AwsKmsKeyStore, blob: bytes, enclave: NitroSimulator
) -> None:
    for to in (
        recipient("sev-snp"),
        document(enclave, key=None),
        document(enclave, key=b"another key"),
        recipient("aws-nitro", b"no document"),
        recipient("aws-nitro", b""),
    ):
        with pytest.raises(PolicyDenied) as caught:
            released(broker, blob, to)
        assert caught.value.code is KeysCode.RECIPIENT_UNSUITED


def test_a_stale_or_forged_document_is_kms_business_too(
    broker: AwsKmsKeyStore, blob: bytes, enclave: NitroSimulator
) -> None:
    good = document(enclave)
    forged = Recipient(good.wrap_public_key, good.tee, good.report[:-1] + b"\x00")
    for to in (document(enclave, age_s=600), forged):
        code = refusal(lambda to=to: released(broker, blob, to))
        assert code is KeyServiceCode.KEY_SERVICE_FAILED


def test_plaintext_in_the_answer_is_refused_and_not_used(
    kms: RunningKms, broker: AwsKmsKeyStore, blob: bytes, enclave: NitroSimulator
) -> None:
    plain = {"Plaintext": base64.b64encode(MODEL_KEY).decode()}
    for spoil in (lambda a: a | plain, lambda _: plain):
        kms.spoil = lambda name, a, spoil=spoil: spoil(a) if name == "Decrypt" else a
        code = refusal(lambda: released(broker, blob, document(enclave)))
        assert code is AwsKmsCode.KMS_PLAINTEXT_RETURNED


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"CiphertextForRecipient": ""},
        {"CiphertextForRecipient": "AAAA"},
        {"CiphertextForRecipient": "!"},
        {"CiphertextForRecipient": 7},
        {"CiphertextForRecipient": base64.b64encode(bytes(5000)).decode()},
    ],
)
def test_answers_that_are_no_cms(
    kms: RunningKms,
    broker: AwsKmsKeyStore,
    blob: bytes,
    enclave: NitroSimulator,
    answer: dict[str, Any],
) -> None:
    kms.spoil = lambda name, real: answer if name == "Decrypt" else real
    code = refusal(lambda: released(broker, blob, document(enclave)))
    assert code is KeyServiceCode.KEY_SERVICE_ANSWER_WRONG


def test_two_models_of_one_kek_cannot_be_exchanged(
    kms: RunningKms, owner: AwsKmsKeyStore, blob: bytes
) -> None:
    kms.service.keys[0].policy.append(
        {"Effect": "Allow", "Action": ["kms:Decrypt"], "Principal": {"AWS": [OWNER]}}
    )
    with owner.recover_for_owner("smollm2", blob, CONTEXT) as key:
        assert key.matches(secret())
    other = owner.wrap("smollm2", secret(b"o" * 32), OTHER_CONTEXT)
    changed = blob[:40] + bytes((blob[40] ^ 1,)) + blob[41:]
    for exchanged, context in (
        (blob, OTHER_CONTEXT), (other, CONTEXT), (changed, CONTEXT), (blob[:33], CONTEXT),
        (blob[:32], CONTEXT), (b"", CONTEXT), (blob + bytes(1024), CONTEXT),
    ):  # fmt: skip
        act = lambda e=exchanged, c=context: owner.recover_for_owner("smollm2", e, c)  # noqa: E731
        assert refusal(act) is KeysCode.KEY_UNWRAP_FAILED
    code = refusal(lambda: owner.recover_for_owner("smollm2", bytes(32) + blob[32:], CONTEXT))
    assert code is KeysCode.KEK_MISMATCH


@pytest.mark.parametrize(
    "told",
    [
        ("ThrottlingException", 400, KeyServiceCode.KEY_SERVICE_BUSY),
        ("KMSInternalException", 500, KeyServiceCode.KEY_SERVICE_FAILED),
        ("DependencyTimeoutException", 503, KeyServiceCode.KEY_SERVICE_FAILED),
        ("ExpiredTokenException", 400, KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED),
        ("InvalidCiphertextException", 400, KeysCode.KEY_UNWRAP_FAILED),
        ("IncorrectKeyException", 400, KeysCode.KEK_MISMATCH),
        ("DisabledException", 400, KeyServiceCode.KEK_DISABLED),
        ("KMSInvalidStateException", 400, KeyServiceCode.KEK_DISABLED),
        ("com.amazonaws.kms#NotFoundException", 400, KeysCode.KEK_UNKNOWN),
        ("SomethingNew", 400, KeyServiceCode.KEY_SERVICE_FAILED),
    ],
)
def test_refusals_of_kms(
    kms: RunningKms,
    broker: AwsKmsKeyStore,
    blob: bytes,
    enclave: NitroSimulator,
    told: tuple[str, int, Code],
) -> None:
    kind, status, code = told
    tried: list[str] = []

    def refuse(name: str) -> KmsError | None:
        if name != "Decrypt":
            return None
        tried.append(name)
        return KmsError(kind, "of tests", status)

    kms.refuse = refuse
    assert refusal(lambda: released(broker, blob, document(enclave))) is code
    repeated = {KeyServiceCode.KEY_SERVICE_BUSY, KeyServiceCode.KEY_SERVICE_FAILED}
    assert len(tried) == (3 if code in repeated else 1)
    kms.refuse = None
    released(broker, blob, document(enclave)).close()


@pytest.mark.parametrize("state", ["Disabled", "PendingDeletion"])
def test_states_of_a_key(kms: RunningKms, owner: AwsKmsKeyStore, state: str) -> None:
    kms.service.keys[0].state = state
    assert refusal(lambda: owner.kek_id("smollm2")) is KeyServiceCode.KEK_DISABLED
    kms.service.keys[0].state = "Enabled"
    kms.service.keys[0].spec = "RSA_4096"
    assert refusal(lambda: owner.kek_id("smollm2")) is KeyServiceCode.KEK_UNSUITED


def test_logins_regions_and_clocks(
    kms: RunningKms, login: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    login(STRANGER)
    with opened(kms) as store:
        code = refusal(lambda: store.kek_id("smollm2"))
        assert code is KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED
    login(OWNER)
    with opened(kms, "us-east-1") as store:
        code = refusal(lambda: store.kek_id("smollm2"))
        assert code is KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED
    with opened(kms) as store:
        assert refusal(lambda: store.kek_id("other")) is KeysCode.KEK_UNKNOWN
        kms.service.clock = lambda: system_clock() + timedelta(hours=1)
        assert refusal(lambda: store.kek_id("smollm2")) is AwsKmsCode.KEY_SERVICE_CLOCK
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", "/nonexistent")
    code = refusal(lambda: opened(kms))
    assert code is KeyServiceCode.KEY_SERVICE_LOGIN_REFUSED


def test_an_endpoint_that_is_gone(login: Callable[[str], None]) -> None:
    login(OWNER)
    with KIT.open(f"{REGION}?endpoint=http://127.0.0.1:1", ROOT, None) as store:
        begun = time.monotonic()
        assert refusal(lambda: store.kek_id("smollm2")) is CoreCode.PEER_UNREACHABLE
        assert time.monotonic() - begun < 5


def test_addresses() -> None:
    address = parse_address("arn:aws:kms:eu-central-1:111122223333?ca=ca.pem", ROOT)
    assert (address.region, address.authorities) == (REGION, ROOT / "ca.pem")
    owner = "arn:aws:kms:eu-central-1:111122223333"
    assert address.key_id("smollm2") == f"{owner}:alias/smollm2"
    key_id = "1234abcd-12ab-34cd-56ef-1234567890ab"
    assert address.key_id(key_id) == f"{owner}:key/{key_id}"
    assert parse_address(REGION, ROOT).key_id(key_id) == key_id
    for wrong in (
        "", "Europe", "eu-central-1?endpoint=http://kms.example", "eu-central-1?region=x",
        "eu-central-1?ca=a&ca=b", "arn:aws:s3:eu-central-1:111122223333", "eu-central-1/x",
        "arn:aws:kms:eu-central-1:1", "eu-central-1?endpoint=https://a:b@kms.example",
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            parse_address(wrong, ROOT)
        assert caught.value.code is KeyServiceCode.KEY_SERVICE_ADDRESS


def test_the_regions_own_endpoint(login: Callable[[str], None]) -> None:
    login(OWNER)
    for region, host in (
        (REGION, "kms.eu-central-1.amazonaws.com"),
        ("cn-north-1", "kms.cn-north-1.amazonaws.com.cn"),
    ):
        with KIT.open(region, ROOT, None) as store:
            assert store._connection._http.where == f"https://{host}"


def test_keks_are_made_elsewhere(login: Callable[[str], None]) -> None:
    login(OWNER)
    with pytest.raises(KeyAccessError) as caught:
        KIT.make_kek(REGION, ROOT, None, "smollm2")
    assert caught.value.code is AwsKmsCode.KEK_MADE_ELSEWHERE
    assert (KIT.asks, KIT.is_new(REGION, ROOT)) == (None, False)


def test_the_doctor_tells_whether_an_enclave_is_needed(
    kms: RunningKms, owner: AwsKmsKeyStore
) -> None:
    del owner
    location = f"{REGION}?endpoint={kms.url}"
    found = {each.name: each.holds for each in KIT.examine(location, ROOT, None, "smollm2")}
    assert found["gives keys to enclaves only"]
    kms.service.keys[0].policy.append(
        {"Effect": "Allow", "Action": ["kms:Decrypt"], "Principal": {"AWS": [OWNER]}}
    )
    found = {each.name: each.holds for each in KIT.examine(location, ROOT, None, "smollm2")}
    assert not found["gives keys to enclaves only"]


def test_the_brokers_own_rules_name_what_it_calls() -> None:
    (statement,) = IAM["Statement"]
    assert statement["Action"] == ["kms:DescribeKey", "kms:Decrypt"]
