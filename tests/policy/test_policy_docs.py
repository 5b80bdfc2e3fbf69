"""The pages say what the code does, and name what exists."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regalia.appraisal import policy_words
from regalia.appraisal.finding import _LISTED_MAX, _SHOWN_MAX
from regalia.appraisal.policy_codes import PolicyCode
from regalia.core.codec import canonical_json
from regalia.policy import condition_grammar as grammar
from regalia.policy import documents
from regalia.policy.condition_fields import RELEASE_FIELDS
from regalia.policy.conditions import TEXT_MAX
from regalia.policy.rules import EGRESS_MAX
from regalia.tees.azure.policy import section as policy_azure
from regalia.tees.boot.policy import section as policy_boot
from regalia.tees.intel.policy import section as policy_intel
from regalia.tees.nitro.policy import section as policy_nitro
from regalia.tees.nvidia.policy import section as policy_nvidia
from regalia.tees.snp.names import PRODUCTS, PlatformInfoBit
from regalia.tees.snp.policy import section as policy_snp
from regalia.tees.tpm.policy import section as policy_tpm

if TYPE_CHECKING:
    from regalia.appraisal.condition_types import Fields

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "docs" / "spec" / "policy.md").read_text(encoding="utf-8")
# A TEE's page may hold its own table of fields, and of what conditions may say of it.
OWN = "".join(
    text
    for page in sorted((ROOT / "docs" / "spec").glob("*-appraisal.md"))
    if "<!-- fields: " in (text := page.read_text(encoding="utf-8"))
)
VECTORS = ROOT / "tests" / "vectors" / "policy"


def test_the_example_is_the_vector() -> None:
    (example,) = re.findall(r"```json\n(.+?)```", SPEC, re.DOTALL)
    assert canonical_json(json.loads(example)) == (VECTORS / "release-policy.json").read_bytes()
    about = json.loads((VECTORS / "signed-policy.key.json").read_bytes())
    assert f"    {about['policy_id']}\n" in SPEC
    assert f"    {about['fingerprint']}\n" in SPEC


def test_every_code_stands_in_the_order_of_evaluation() -> None:
    table = SPEC[SPEC.index("## 4. ") : SPEC.index("## 5. ")]
    found = re.findall(r"\b[A-Z]+(?:_[A-Z0-9]+)+\b", table)
    codes = [code for code in dict.fromkeys(found) if code in PolicyCode.__members__]
    assert codes == list(PolicyCode.__members__)


def test_every_field_of_the_documents_is_described() -> None:
    def names(kind: type[msgspec.Struct]) -> None:
        for field in msgspec.structs.fields(kind):
            # By itself, or as an object whose members have rows of their own, or as such a member.
            forms = (f"`{field.name}`", f"`{field.name}.", f".{field.name}`")
            assert any(form in SPEC + OWN for form in forms), field.name

    for kind in (
        *vars(documents).values(),
        *vars(policy_snp).values(),
        *vars(policy_boot).values(),
        *vars(policy_intel).values(),
        *vars(policy_tpm).values(),
        *vars(policy_nvidia).values(),
        *vars(policy_nitro).values(),
        *vars(policy_azure).values(),
    ):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            names(kind)
    for word in (*PRODUCTS, *PlatformInfoBit.__members__):
        assert word in SPEC


def test_every_field_of_conditions_is_described() -> None:
    table = SPEC[SPEC.index("## 5. ") : SPEC.index("## 6. ")] + OWN

    def walk(path: str, fields: Fields) -> None:
        for name, inner in fields.items():
            if isinstance(inner, Mapping):
                walk(f"{path}{name}.", inner)
            else:
                assert f"`{path}{name}`" in table or f"`.{name}`" in table, f"{path}{name}"

    walk("", RELEASE_FIELDS)
    for method in (*grammar.TEXT_METHODS, *grammar.LOOPS, "size", "timestamp"):
        assert f"`{method}`" in table


def test_limits_are_those_of_the_code() -> None:
    for text in (
        f"payload {documents.LIMIT:,} bytes",
        f"at most {policy_words.ENTRIES_MAX:,} entries",
        f"1 to\n{policy_words.WORD_MAX} printable",
        f"at most {documents.CONDITIONS_MAX}, section 5",
        f"{documents.EXPRESSION_MAX:,} characters, {grammar.TOKENS_MAX} tokens",
        f"and `!` | {grammar.DEPTH_MAX} |",
        f"together | {grammar.LOOPS_MAX},",
        f"`matches` | {grammar.PATTERNS_MAX} |",
        f"at most {grammar.PATTERN_LENGTH_MAX} characters, without `{{`",
        f"among the values | {TEXT_MAX:,} characters",
        f"lists at most {EGRESS_MAX} addresses",
        f"at most {_SHOWN_MAX}\nprintable characters, lists in at most {_LISTED_MAX} entries",
    ):
        assert text in SPEC, text


def test_the_threat_model_names_what_exists() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    attacks = (ROOT / "demo/regalia_demo/attacks/__init__.py").read_text(encoding="utf-8")
    ids = re.findall(r"\bAttack\(\s*\"([a-z-]+)\"", attacks)
    assert len(ids) >= 10
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) == sorted(ids)


def test_codes_on_the_pages_exist() -> None:
    known = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for name in ("threat-model.md", "limitations.md", "glossary.md"):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for word in set(re.findall(r"\b[A-Z]{3,}(?:_[A-Z]+)+\b", page)):
            is_bit = word in PlatformInfoBit.__members__
            field = {"MIGRATE_MA", "PLATFORM_INFO", "HOST_DATA", "REPORT_DATA", "TCB_VERSION"}
            field |= {"CSP_ID", "CHIP_ID", "SSL_CERT_FILE", "AWS_CA_BUNDLE"}
            assert is_bit or word in field or word in known, (name, word)
