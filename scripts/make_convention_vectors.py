"""Write the vectors of the shared encodings: python scripts/make_convention_vectors.py [--check].

Spec: docs/spec/conventions.md. What is refused is written by hand, a spelling that some reader
somewhere accepts; what is accepted is computed.
"""

from __future__ import annotations

import sys
from typing import Any

from signed_documents import signed
from vector_files import VECTORS, as_json, fixed, write_or_compare

from regalia.core.codec import b64, canonical_json, lp

FOLDER = VECTORS / "conventions"
TEXTS = ("", "a", '"\\/', "\b\t\n\f\r", "\0\x01\x1f\x7f\x80", "é€𝄞", "\u2028\u2029\ufeff")
REFUSED_JSON = {
    "white_space_between": b'{"i": 1,"l":[],"t":""}',
    "white_space_before": b' {"i":1,"l":[],"t":""}',
    "newline_behind": b'{"i":1,"l":[],"t":""}\n',
    "byte_order_mark": b'\xef\xbb\xbf{"i":1,"l":[],"t":""}',
    "members_out_of_order": b'{"l":[],"i":1,"t":""}',
    "member_twice": b'{"i":1,"i":1,"l":[],"t":""}',
    "member_missing": b'{"i":1,"l":[]}',
    "member_unknown": b'{"i":1,"l":[],"t":"","z":0}',
    "member_null": b'{"i":1,"l":[],"t":null}',
    "number_with_fraction": b'{"i":1.0,"l":[],"t":""}',
    "number_with_exponent": b'{"i":1e0,"l":[],"t":""}',
    "number_with_leading_zero": b'{"i":01,"l":[],"t":""}',
    "number_with_plus": b'{"i":+1,"l":[],"t":""}',
    "number_minus_zero": b'{"i":-0,"l":[],"t":""}',
    "number_as_text": b'{"i":"1","l":[],"t":""}',
    "number_true": b'{"i":true,"l":[],"t":""}',
    "number_nan": b'{"i":NaN,"l":[],"t":""}',
    "escape_of_solidus": b'{"i":1,"l":[],"t":"\\/"}',
    "escape_of_letter": b'{"i":1,"l":[],"t":"\\u0061"}',
    "escape_upper_case": b'{"i":1,"l":[],"t":"\\u001F"}',
    "escape_long_for_newline": b'{"i":1,"l":[],"t":"\\u000a"}',
    "escape_of_delete": b'{"i":1,"l":[],"t":"\\u007f"}',
    "escaped_surrogate_pair": b'{"i":1,"l":[],"t":"\\ud834\\udd1e"}',
    "lone_surrogate": b'{"i":1,"l":[],"t":"\\ud834"}',
    "encoded_surrogate": b'{"i":1,"l":[],"t":"\xed\xa0\xb4"}',
    "raw_newline": b'{"i":1,"l":[],"t":"\n"}',
    "overlong_utf8": b'{"i":1,"l":[],"t":"\xc0\x80"}',
    "not_utf8": b'{"i":1,"l":[],"t":"\xff"}',
    "utf16": '{"i":1,"l":[],"t":""}'.encode("utf-16-le"),
    "trailing_comma": b'{"i":1,"l":[],"t":"",}',
    "two_documents": b'{"i":1,"l":[],"t":""}{"i":1,"l":[],"t":""}',
    "cut": b'{"i":1,"l":[],"t":""',
    "empty": b"",
    "list": b"[]",
}
REFUSED_BASE64 = {
    "no_padding": "QQ",
    "half_padding": "QQ=",
    "too_much_padding": "QQ===",
    "unused_bits": "QR==",
    "unused_bits_of_two": "QUJ=",
    "space": "Q Q==",
    "newline": "QQ==\n",
    "padding_inside": "QQ==QQ==",
    "url_alphabet": "-_8=",
    "one_character": "A",
    "not_ascii": "é===",
}
REFUSED_HEX = {"upper_case": "AB", "odd": "abc", "prefix": "0xab", "space": "ab cd", "letter": "zz"}
REFUSED_TIMES = {
    "fraction": "2026-11-22T10:00:00.0Z",
    "offset": "2026-11-22T10:00:00+00:00",
    "lower_case": "2026-11-22t10:00:00z",
    "space": "2026-11-22 10:00:00Z",
    "no_zone": "2026-11-22T10:00:00",
    "leading_zero_missing": "2026-11-2T10:00:00Z",
    "day_that_is_not": "2026-02-29T10:00:00Z",
    "hour_24": "2026-11-22T24:00:00Z",
    "leap_second": "2016-12-31T23:59:60Z",
    "year_999": "0999-12-31T23:59:59Z",
    "other_digits": "\uff12\uff10\uff12\uff16-11-22T10:00:00Z",
}
TIMES = (
    "2026-11-22T10:00:00Z",
    "2000-02-29T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "1000-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
)


def documents() -> dict[str, Any]:
    """Canonical JSON: documents with exactly the members i, l and t."""
    accepted = [{"i": number, "l": [], "t": ""} for number in (0, 1, -1, 2**53, -(2**53))]
    accepted += [{"i": 0, "l": [text, text], "t": text} for text in TEXTS]
    return {
        "about": "Objects of three members: i, an integer; l, a list of text; t, text.",
        "accepted": [{"hex": canonical_json(each).hex(), "value": each} for each in accepted],
        "refused": {name: data.hex() for name, data in REFUSED_JSON.items()},
    }


def texts() -> dict[str, Any]:
    """Base64, hexadecimal, length prefixes, text forms and times."""
    parts: list[tuple[bytes, ...]] = [(), (b"",), (b"ab", b"c"), (b"a", b"bc"), (b"", b"", b"\0")]
    word = fixed("text form").hex()
    forms = {"sha256", "model", "seal", "policy", "key"}
    return {
        "base64": {
            "accepted": [
                {"hex": fixed("base64", n).hex(), "text": b64(fixed("base64", n))} for n in range(7)
            ],
            "refused": REFUSED_BASE64,
        },
        "hexadecimal": {"accepted": ["", "00", word], "refused": REFUSED_HEX},
        "length_prefixes": [
            {"parts": [part.hex() for part in each], "lp": lp(*each).hex()} for each in parts
        ],
        "text_forms": {
            "accepted": {form: f"{form}:{word}" for form in sorted(forms)},
            "refused": {
                "no_prefix": word,
                "empty_prefix": f":{word}",
                "other_prefix": f"id:{word}",
                "two_prefixes": f"model:model:{word}",
                "short": f"model:{word[2:]}",
                "long": f"model:{word}00",
                "upper_case": f"model:{word.upper()}",
                "space": f"model: {word}",
                "newline": f"model:{word}\n",
            },
        },
        "times": {"accepted": TIMES, "refused": REFUSED_TIMES},
    }


def files() -> dict[str, bytes]:
    """Contents by name."""
    return {
        "canonical-json.json": as_json(documents()),
        "texts.json": as_json(texts()),
        "signed-documents.json": as_json(signed()),
    }


if __name__ == "__main__":
    sys.exit(write_or_compare(FOLDER, files()))
