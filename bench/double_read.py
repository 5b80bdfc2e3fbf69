"""Does the library read a chunk's ciphertext once? A second process changes one byte all the time.

A reader that decrypts from memory which somebody else can change is safe only if every byte of
ciphertext is read once: the byte that is authenticated must be the byte that is decrypted. Each row
is one set of instructions of the processor, switched off for the library by OPENSSL_ia32cap (x86-64
only). Usage: double_read.py [--seconds N]. See docs/adr on decrypting from a mapping.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import signal
import subprocess
import sys
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from harness import show_table

SIZE = (1 << 20) - 16  # bytes of plaintext in a chunk of the default stride
PLACE = 30_000  # the byte that changes
PATHS = {
    "as it is": None,
    "without AVX-512, VAES, VPCLMULQDQ": ":~0x60000010000",
    "without AES-NI": "~0x200000000000000",
}


def flip_forever(address: int, good: int) -> None:
    byte = ctypes.c_ubyte.from_address(address)
    while True:
        byte.value = good ^ 1
        byte.value = good


def attack(seconds: float) -> dict[str, int]:
    """Decrypt one chunk again and again while it changes, and count what came out."""
    shared = mmap.mmap(-1, SIZE + 16)
    aead, nonce, plain = AESGCM(bytes(32)), bytes(12), os.urandom(SIZE)
    shared[:] = aead.encrypt(nonce, plain, b"")
    address = ctypes.addressof(ctypes.c_char.from_buffer(shared)) + PLACE
    attacker = os.fork()
    if attacker == 0:
        flip_forever(address, shared[PLACE])
    counts = {"right": 0, "refused": 0, "authentic, but wrong": 0}
    out = bytearray(SIZE)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            try:
                aead.decrypt_into(nonce, memoryview(shared), b"", out)
            except InvalidTag:
                counts["refused"] += 1
            else:
                same = out[PLACE] == plain[PLACE]
                counts["right" if same else "authentic, but wrong"] += 1
    finally:
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each row")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(attack(args.seconds)))
        return
    rows = []
    for name, mask in PATHS.items():
        environment = dict(os.environ) if mask is None else {**os.environ, "OPENSSL_ia32cap": mask}
        done = subprocess.run(
            [sys.executable, __file__, "--child", "--seconds", str(args.seconds)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append((name, *(f"{count:,}" for count in json.loads(done.stdout).values())))
    show_table(
        "one chunk, one byte of which changes while it is decrypted",
        ("processor", "right", "refused", "authentic, but wrong"),
        rows,
    )


if __name__ == "__main__":
    main()
