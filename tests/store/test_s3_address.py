"""What names a folder in S3, and that no credentials get in that way, or out in a message."""

from __future__ import annotations

import pytest

from regalia.core.errors import CoreCode, UsageError
from regalia.store.s3_address import S3Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://models", S3Address("models", "")),
        ("s3://models/", S3Address("models", "")),
        ("s3://models/smollm2", S3Address("models", "smollm2/")),
        ("s3://mod.els-1/a/B_c.d=1/", S3Address("mod.els-1", "a/B_c.d=1/")),
        (
            "s3://models/m?endpoint=http://127.0.0.1:8333&region=eu-west-1&addressing=path",
            S3Address("models", "m/", "http://127.0.0.1:8333", "eu-west-1", "path"),
        ),
        (
            "s3://models/m?endpoint=https%3A%2F%2Fs3.example%3A9000",
            S3Address("models", "m/", "https://s3.example:9000"),
        ),
    ],
)
def test_addresses(text: str, address: S3Address) -> None:
    assert S3Address.parse(text) == address
    assert address.describe() == f"s3://{address.bucket}/{address.prefix}"


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3:///m", "s3://ab", "s3://Models/m", "s3://models:80/m", "s3://-models", "s3://a..b",
     "s3://models--x-s3/m", "s3://models/a//b", "s3://models/../m", "s3://models/./m",
     "s3://models//", "s3://models/a%2fb", "s3://models/a b", "s3://models/\u00fc",
     "s3://models/m#x", "s3://models/m#", "s3://models/m\n", "s3://models/" + "m" * 901,
     "s3://models/m?endpoint", "s3://models/m?endpoint=", "s3://models/m?endpoint=ftp://h",
     "s3://models/m?endpoint=https://", "s3://models/m?endpoint=https://h:x",
     "s3://models/m?endpoint=https://h?a%3Db", "s3://models/m?region=", "s3://models/m?region=a/b",
     "s3://models/m?region=a&region=b", "s3://models/m?addressing=other", "s3://models/m?profile=x",
     "s3://models/m?versionId=x"],
)  # fmt: skip
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        S3Address.parse(text)
    assert caught.value.code is CoreCode.BAD_CONFIG


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIDHIDDEN:HIDDEN@models/m",
        "s3://HIDDEN@models/m",
        "s3://models/m?X-Amz-Credential=HIDDEN&X-Amz-Signature=HIDDEN",
        "s3://models/m?aws_access_key_id=HIDDEN",
        "s3://models/m?aws_secret_access_key=HIDDEN&region=eu-west-1",
        "s3://models/m?endpoint=https://AKIDHIDDEN:HIDDEN@s3.example",
        "s3://models/m?endpoint=https://s3.example?token=HIDDEN",
        "s3://models/m?HIDDEN",
        "s3://models/HIDDEN+HIDDEN",
    ],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        S3Address.parse(text)
    assert caught.value.code is CoreCode.BAD_CONFIG
    assert "HIDDEN" not in caught.value.explain()
    assert "HIDDEN" not in str(caught.value)
