"""KEKs that are not as the product makes them, and what happens to them in the token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pkcs11.constants import Attribute, MechanismFlag, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType, Mechanism

from regalia.core.errors import KeyAccessError, RegaliaError, UsageError
from regalia.core.secret import SecretBytes
from regalia.keys.pkcs11.kek import find_kek, protection
from regalia.keys.pkcs11.plugin import KIT
from regalia_testing.soft_token import PIN
from tests.keys.asking import CONTEXT
from tests.keys.pkcs11.records import KEY
from tests.keys.pkcs11.tokens import add_kek, connect, opened, plant

if TYPE_CHECKING:
    from regalia.keys.pkcs11.store import Pkcs11KeyStore
    from regalia_testing.soft_token import SoftToken

SAFE: dict[Attribute, Any] = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.PRIVATE: True,
}


def generate(
    token: SoftToken, uses: MechanismFlag, template: dict[Attribute, Any], bits: int = 256
) -> None:
    """Make a key in the token that the product would not make."""
    connection = connect(token)
    try:
        with connection.writing("planting a key") as session:
            session.generate_key(
                KeyType.AES, bits, label="one", store=True, capabilities=uses, template=template
            )
    finally:
        connection.close()


def code_of(token: SoftToken) -> tuple[str, str]:
    with opened(token) as store, pytest.raises(RegaliaError) as caught:
        store.kek_id("one")
    return caught.value.code.name, caught.value.what


@pytest.mark.parametrize(
    ("uses", "template", "bits", "why"),
    [
        (MechanismFlag.DERIVE, SAFE | {Attribute.EXTRACTABLE: True}, 256, "EXTRACTABLE True"),
        (MechanismFlag.DERIVE, SAFE | {Attribute.SENSITIVE: False}, 256, "SENSITIVE False"),
        (MechanismFlag.DERIVE, SAFE | {Attribute.PRIVATE: False}, 256, "PRIVATE False"),
        (MechanismFlag(0), SAFE, 256, "DERIVE False"),
        (MechanismFlag.DERIVE | MechanismFlag.ENCRYPT, SAFE, 256, "ENCRYPT True"),
        (MechanismFlag.DERIVE | MechanismFlag.DECRYPT, SAFE, 256, "DECRYPT True"),
        (MechanismFlag.DERIVE | MechanismFlag.SIGN, SAFE, 256, "SIGN True"),
        (MechanismFlag.DERIVE | MechanismFlag.VERIFY, SAFE, 256, "VERIFY True"),
        (MechanismFlag.DERIVE | MechanismFlag.WRAP, SAFE, 256, "WRAP True"),
        (MechanismFlag.DERIVE | MechanismFlag.UNWRAP, SAFE, 256, "UNWRAP True"),
        (MechanismFlag.DERIVE, SAFE, 128, "VALUE_LEN 16"),
    ],
)
def test_a_kek_without_protection_is_refused(
    empty_token: SoftToken,
    uses: MechanismFlag,
    template: dict[Attribute, Any],
    bits: int,
    why: str,
) -> None:
    generate(empty_token, uses, template, bits)
    code, what = code_of(empty_token)
    assert code == "KEK_UNPROTECTED"
    assert why in what


def test_a_kek_that_was_made_readable_and_then_hidden_is_refused(empty_token: SoftToken) -> None:
    readable = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}
    generate(empty_token, MechanismFlag.DERIVE, SAFE | readable)
    connection = connect(empty_token)
    with connection.writing("hiding the key") as session:
        (key,) = session.get_objects({Attribute.LABEL: "one"})
        assert key[Attribute.VALUE]
        key[Attribute.SENSITIVE] = True
        key[Attribute.EXTRACTABLE] = False
    connection.close()
    code, what = code_of(empty_token)
    assert code == "KEK_UNPROTECTED"
    assert what.startswith("key 'one': ALWAYS_SENSITIVE False, want True; NEVER_EXTRACTABLE False")


def test_an_imported_kek_is_refused(empty_token: SoftToken) -> None:
    plant(
        empty_token,
        SAFE
        | {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.LABEL: "one",
            Attribute.TOKEN: True,
            Attribute.DERIVE: True,
            Attribute.VALUE: bytes(32),
        },
    )
    code, what = code_of(empty_token)
    assert code == "KEK_UNPROTECTED"
    assert "LOCAL False" in what
    assert "NEVER_EXTRACTABLE False" in what


def test_two_keys_of_one_name_are_refused(token: SoftToken) -> None:
    generate(token, MechanismFlag.DERIVE, SAFE)
    assert code_of(token)[0] == "KEK_NOT_UNIQUE"


def test_a_kek_is_made_once_and_protected(token: SoftToken) -> None:
    with pytest.raises(KeyAccessError, match="KEK_EXISTS"):
        add_kek(token, "one")
    with opened(token) as store, store._connection.writing("attacking the KEK") as session:
        kek = find_kek(session, "one")
        assert all(told == want for told, want in protection(kek).values())
        assert kek[Attribute.MODIFIABLE] is False
        assert kek[Attribute.COPYABLE] is False
        with pytest.raises(PKCS11Error):
            _ = kek[Attribute.VALUE]
        for attribute in (Attribute.EXTRACTABLE, Attribute.ENCRYPT, Attribute.UNWRAP):
            with pytest.raises(PKCS11Error):
                kek[attribute] = True
        with pytest.raises(PKCS11Error):
            kek.copy({Attribute.EXTRACTABLE: True})
        wrapping = session.generate_key(
            KeyType.AES, 256, store=False, capabilities=MechanismFlag.WRAP, template={}
        )
        with pytest.raises(PKCS11Error):
            wrapping.wrap_key(kek, mechanism=Mechanism.AES_KEY_WRAP)  # type: ignore[attr-defined] # of its mix-in


@pytest.mark.parametrize("name", ["", "A", "a/b", "a" * 65])
def test_a_name_that_no_manifest_can_state_is_refused(empty_token: SoftToken, name: str) -> None:
    with pytest.raises(UsageError, match="KEY_REFERENCE_MALFORMED"):
        add_kek(empty_token, name)


def test_a_kek_that_was_destroyed_and_made_again_is_another(
    token: SoftToken, store: Pkcs11KeyStore
) -> None:
    with SecretBytes(bytearray(KEY)) as key:
        blob = store.wrap("one", key, CONTEXT)
    with store._connection.writing("destroying the KEK") as session:
        find_kek(session, "one").destroy()
    with pytest.raises(KeyAccessError, match="KEK_UNKNOWN"):
        store.recover_for_owner("one", blob, CONTEXT)
    store.close()
    add_kek(token, "one")
    with opened(token) as again, pytest.raises(KeyAccessError, match="KEK_MISMATCH"):
        again.recover_for_owner("one", blob, CONTEXT)


def test_a_renamed_kek_is_not_found(empty_token: SoftToken) -> None:
    generate(empty_token, MechanismFlag.DERIVE, SAFE | {Attribute.MODIFIABLE: True})
    with opened(empty_token) as store:
        before = store.kek_id("one")
        with store._connection.writing("renaming the KEK") as session:
            find_kek(session, "one")[Attribute.LABEL] = "other"
        with pytest.raises(KeyAccessError, match="KEK_UNKNOWN"):
            store.kek_id("one")
        assert store.kek_id("other") == before


def test_what_the_doctor_finds_in_softhsm(token: SoftToken) -> None:
    with SecretBytes(bytearray(PIN)) as pin:
        found = KIT.examine(token.location, Path(), pin, "one")
    assert {each.name for each in found if not each.holds} == {
        "keeps wrapping keys inside",
        "rewraps with OAEP-SHA-256",
        "is hardware",
    }
    shown = {each.name: each.shown for each in found}
    assert shown["does not show the KEK"] == "refused with AttributeSensitive"
    assert shown["binds keys to their model"] == "refused with KEY_UNWRAP_FAILED"
    assert shown["is hardware"].startswith("a software token: SoftHSM")
    assert "0x210a" in shown["derives wrapping keys as specified"]
    with opened(token) as store, store._connection.session("counting") as session:
        assert len(list(session.get_objects())) == 2  # it kept nothing
