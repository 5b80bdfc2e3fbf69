"""Write the vectors of stores: python scripts/make_store_vectors.py [--check].

Spec: docs/spec/stores.md.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import zlib
from typing import Any

from vector_files import VECTORS, as_json, fixed, write_or_compare

from regalia.core.codec import canonical_json
from regalia.core.types import Digest
from regalia.store.image import IMAGE_TYPE, Blob, Image, Label, stored_name

FOLDER = VECTORS / "stores"
Document = dict[str, Any]


def image() -> Image:
    """A version of three files."""
    blobs = (
        Blob("manifest.json", Digest(fixed("manifest")), 2071),
        Blob("index.seal", Digest(fixed("index")), 69_648),
        Blob("shard-00000.seal", Digest(fixed("shard")), 4_294_971_392),
    )
    return Image(blobs, Label(f"model:{fixed('model').hex()}", "3"))


def document() -> Document:
    """Its document, to change."""
    return json.loads(image().encode())  # type: ignore[no-any-return]


def layer(number: int, **members: Any) -> str:  # noqa: ANN401 - any member
    """A document one of whose layers differs.

    Args:
        number: of the layer.
        members: in place of its own.
    """
    changed = document()
    changed["layers"][number] |= members
    return canonical_json(changed).decode()


def titled(name: str) -> dict[str, dict[str, str]]:
    """Annotations that give a file a name."""
    return {"annotations": {"org.opencontainers.image.title": name}}


def changed(**members: Any) -> str:  # noqa: ANN401 - any member
    """A document some of whose members differ."""
    return canonical_json(document() | members).decode()


def accepted() -> dict[str, str]:
    """Documents that name the three files."""
    bare = document()
    del bare["annotations"], bare["config"], bare["mediaType"]
    return {
        "as_written": image().encode().decode(),
        "white_space": json.dumps(document(), indent=2),
        "members_of_others": changed(subject={"size": 1}, config={"mediaType": "x"}),
        "bare": canonical_json(bare).decode(),
    }


def refused() -> dict[str, list[str]]:
    """Documents with one defect each, with their codes."""
    layers = document()["layers"]
    kind = "application/vnd.oci.image.layer.v1.tar"
    return {
        "artifact_of_another_kind": ["NOT_A_SEALED_MODEL", changed(artifactType="application/x")],
        "no_artifact_type": ["NOT_A_SEALED_MODEL", changed(artifactType="")],
        "schema_version": ["NOT_A_SEALED_MODEL", changed(schemaVersion=1)],
        "image_index": [
            "NOT_A_SEALED_MODEL",
            changed(mediaType="application/vnd.oci.image.index.v1+json"),
        ],
        "index_without_layers": ["NOT_A_SEALED_MODEL", index_of_images()],
        "no_layers": ["MALFORMED", changed(layers=[])],
        "no_manifest": ["MALFORMED", changed(layers=layers[1:])],
        "no_index": ["MALFORMED", changed(layers=[layers[0], layers[2]])],
        "file_twice": ["MALFORMED", changed(layers=[*layers, layers[2]])],
        "layer_of_another_kind": ["MALFORMED", layer(2, mediaType=kind)],
        "manifest_as_data": ["MALFORMED", layer(0, mediaType=layers[1]["mediaType"])],
        "no_title": ["MALFORMED", layer(2, annotations={})],
        "title_with_folder": ["MALFORMED", layer(2, **titled("a/b.seal"))],
        "title_dots": ["MALFORMED", layer(2, **titled("../shard.seal"))],
        "title_of_something_else": ["MALFORMED", layer(2, **titled("weights.safetensors"))],
        "title_capital": ["MALFORMED", layer(2, **titled("Shard.seal"))],
        "digest_too_short": ["MALFORMED", layer(2, digest="sha256:" + "0" * 63)],
        "digest_capital": ["MALFORMED", layer(2, digest="sha256:" + "A" * 64)],
        "digest_sha512": ["MALFORMED", layer(2, digest="sha512:" + "0" * 128)],
        "size_zero": ["MALFORMED", layer(2, size=0)],
        "size_negative": ["MALFORMED", layer(2, size=-1)],
        "size_text": ["MALFORMED", layer(2, size="1")],
        "size_beyond": ["MALFORMED", layer(2, size=(1 << 46) + 1)],
        "manifest_too_large": ["MALFORMED", layer(0, size=(24 << 20) + 1)],
        "cut": ["MALFORMED", image().encode().decode()[:-1]],
        "no_json": ["MALFORMED", "version"],
    }


def index_of_images() -> str:
    """What registries keep under a name for several platforms."""
    manifests = [{"mediaType": IMAGE_TYPE, "digest": str(Digest(fixed("image"))), "size": 500}]
    kind = "application/vnd.oci.image.index.v1+json"
    document = {"schemaVersion": 2, "mediaType": kind, "manifests": manifests}
    return canonical_json(document).decode()


def tags() -> dict[str, dict[str, str]]:
    """Contents of a tag that name a digest, and others that are refused."""
    digits = fixed("tag").hex()
    return {
        "accepted": {"as_written": f"sha256:{digits}\n", "no_line_feed": f"sha256:{digits}"},
        "refused": {
            "empty": "",
            "two_line_feeds": f"sha256:{digits}\n\n",
            "carriage_return": f"sha256:{digits}\r\n",
            "white_space": f"sha256:{digits} \n",
            "digits_alone": f"{digits}\n",
            "digest_capital": f"sha256:{digits.upper()}\n",
            "digest_too_short": f"sha256:{digits[:-1]}\n",
        },
    }


def pieces() -> dict[str, Any]:
    """A sealed file's key in a cache, and one of its pieces."""
    prefix, piece = fixed("prefix", 4096), fixed("piece", 100)
    key = hashlib.sha256(b"regalia/cached-file/v1" + struct.pack(">Q", 4196) + prefix).hexdigest()
    header = b"RGP1" + struct.pack(">I", zlib.crc32(piece))
    return {
        "size": 4196,
        "prefix_sha256": hashlib.sha256(prefix).hexdigest(),
        "prefix_label": "shake_256 of 'regalia test vector: prefix', 4096 bytes",
        "key": key,
        "piece": piece.hex(),
        "file": (header + piece).hex(),
    }


def files() -> dict[str, bytes]:
    """Contents by name."""
    blobs = [[blob.name, str(blob.digest), blob.size] for blob in image().blobs]
    digest = Digest.of(image().encode())
    return {
        "versions.json": as_json(
            {
                "files": blobs,
                "digest": str(digest),
                "key": f"blobs/{stored_name(digest)}",
                "tag_content": f"{digest}\n",
                "accepted": accepted(),
                "refused": refused(),
            }
        ),
        "tags.json": as_json({"digest": str(Digest(fixed("tag"))), **tags()}),
        "cache.json": as_json(pieces()),
    }


if __name__ == "__main__":
    sys.exit(write_or_compare(FOLDER, files()))
