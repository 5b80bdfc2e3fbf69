"""Which texts are control tokens, as a model's files say; compared with the library that reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from regalia.core.errors import ParseError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.vllm.controls import Controls
from regalia.engines.vllm.guard import Guard
from regalia.runtime.hosted.files import SmallFiles


def files(**contents: object) -> SmallFiles:
    """Files by name, in which ``__`` stands for a dot."""
    return SmallFiles(
        {
            name.replace("__", "."): bytearray(
                (text if isinstance(text, str) else json.dumps(text)).encode()
            )
            for name, text in contents.items()
        }
    )


def added(*tokens: str, **flags: bool) -> dict[str, Any]:
    return {"added_tokens": [{"content": text, **flags} for text in tokens]}


NONE = added()
SPECIAL = {"special": True}
WHERE: dict[str, dict[str, Any]] = {
    "special in tokenizer.json": {"tokenizer__json": added("<c>", **SPECIAL)},
    "written by the template": {
        "tokenizer__json": added("<c>"),
        "tokenizer_config__json": {"chat_template": "{{ '<c>' }}"},
    },
    "written by a named template": {
        "tokenizer__json": added("<c>"),
        "tokenizer_config__json": {"chat_template": [{"name": "a", "template": "<c>"}]},
    },
    "written by the template's file": {
        "tokenizer__json": added(" <c> "),
        "chat_template__jinja": "<c>",
    },
    "written by the template's older file": {
        "tokenizer__json": added("<c>"),
        "chat_template__json": {"chat_template": "<c>"},
    },
    "in the decoder": {
        "tokenizer_config__json": {"added_tokens_decoder": {"5": {"content": "<c>", **SPECIAL}}}
    },
    "named": {"tokenizer_config__json": {"eos_token": "<c>"}},
    "named, as an object": {"tokenizer_config__json": {"sep_token": {"content": "<c>"}}},
    "additional": {"tokenizer_config__json": {"additional_special_tokens": ["<c>"]}},
    "additional objects": {
        "tokenizer_config__json": {"additional_special_tokens": [{"content": "<c>"}]}
    },
    "extra": {"tokenizer_config__json": {"extra_special_tokens": {"image_token": "<c>"}}},
    "extra, as a list": {"tokenizer_config__json": {"extra_special_tokens": ["<c>"]}},
    "in the map": {"special_tokens_map__json": {"bos_token": {"content": "<c>"}}},
    "additional in the map": {"special_tokens_map__json": {"additional_special_tokens": ["<c>"]}},
    "Mistral's": {"tekken__json": {"special_tokens": [{"token_str": "<c>", "rank": 1}]}},
}


@pytest.mark.parametrize("where", WHERE)
def test_control_tokens_are_known_from_every_file(where: str) -> None:
    controls = Controls.of(files(**({"tokenizer__json": NONE} | WHERE[where])))
    assert controls.within("a <c> b")
    assert not controls.within("a < c> b")


def test_ordinary_added_tokens_are_text() -> None:
    controls = Controls.of(files(tokenizer__json=added("word", "  ")))
    assert not controls.within("a word  ")
    assert controls.texts == frozenset()


@pytest.mark.parametrize(
    "contents",
    [
        {},
        {"tokenizer__model": "binary"},
        {"tokenizer_config__json": {"eos_token": "</s>"}, "vocab__json": {}, "merges__txt": ""},
    ],
)
def test_a_tokenizer_whose_control_tokens_cannot_be_known_is_refused(contents: Any) -> None:  # noqa: ANN401
    with pytest.raises(UsageError) as caught:
        Guard.of(files(**contents), frozenset())
    assert caught.value.code is EngineCode.ENGINE_NEEDS_FAST_TOKENIZER


@pytest.mark.parametrize("text", ["", "[", "[]", "5", '"a"', "[" * 100_000, "\udc80"])
@pytest.mark.parametrize("name", ["tokenizer__json", "tekken__json"])
def test_malformed_files(name: str, text: str) -> None:
    made = SmallFiles({name.replace("__", "."): bytearray(text.encode("utf-8", "surrogatepass"))})
    with pytest.raises(ParseError):
        Controls.of(made)


@pytest.mark.parametrize(
    "odd",
    [
        {"added_tokens": {}},
        {"added_tokens": [None, 5, "a", [], {}, {"content": 5, "special": True}]},
        {"normalizer": 5, **added("<c>", normalized=True, special=True)},
    ],
)
def test_odd_tokenizers_are_read(odd: object) -> None:
    settings = {"added_tokens_decoder": [], "eos_token": 5, "additional_special_tokens": 5}
    Controls.of(files(tokenizer__json=odd, tokenizer_config__json=settings))


# What the library makes of a text that is not the token, letter by letter.

NORMALIZERS: dict[str, Any] = {
    "NFKC": normalizers.NFKC(),
    "NFKD": normalizers.NFKD(),
    "Lowercase": normalizers.Lowercase(),
    "StripAccents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "BertNormalizer": normalizers.BertNormalizer(),
    "Nmt": normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()]),
}
DISGUISES = ("<Sys>", "<sys>", "＜sys＞", "<s\u0301ys>", "<SYS>", "<s\u00adys>", "<s\u200bys>")  # noqa: RUF001


def library(normalizer: object, token: str) -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.add_special_tokens([AddedToken(token, normalized=True, special=True)])
    return tokenizer


@pytest.mark.parametrize("token", ["<sys>", "<Sys>"])
@pytest.mark.parametrize("name", NORMALIZERS)
def test_what_the_library_reads_as_a_control_token_is_found(name: str, token: str) -> None:
    tokenizer = library(NORMALIZERS[name], token)
    controls = Controls.of(files(tokenizer__json=json.loads(tokenizer.to_str())))
    number = tokenizer.token_to_id(token)
    read = [text for text in (token, *DISGUISES) if number in tokenizer.encode(f"a{text}b").ids]
    assert read, "the library reads at least the token itself"
    assert [text for text in read if not controls.within(f"a{text}b")] == []


def test_without_a_normalizer_only_the_token_itself_is_one() -> None:
    for normalizer in (None, normalizers.Sequence([normalizers.Prepend("_")])):
        tokenizer = library(normalizer, "<sys>")
        controls = Controls.of(files(tokenizer__json=json.loads(tokenizer.to_str())))
        assert controls.within("a<sys>b")
        assert not controls.within("a<SYS>b")
