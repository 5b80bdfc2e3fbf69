"""A double of /dev/nsm at the boundary of the ioctl: it reads and writes the caller's memory."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regalia.wire.cbor import decode_cbor, encode_cbor
from regalia_testing.tees.nitro.simulator import PCR_SIZE, PCRS_AT_LAUNCH

if TYPE_CHECKING:
    from regalia.wire.cbor import Cbor, Key
    from regalia_testing.tees.nitro.simulator import NitroSimulator

_MESSAGE = struct.Struct("@QQQQ")
_NSM_IOCTL = 0xC0200A00
_REGISTERS = 32


@dataclass(slots=True)
class FakeNsm:
    """A module's state. Registers below 16 are locked at launch.

    Attributes:
        wrong: what is wrong with it, a word or none; see ``_spoiled``.
    """

    platform: NitroSimulator
    measurement: bytes
    wrong: str = ""
    pcrs: dict[int, bytes] = field(default_factory=dict)
    locked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        at_launch = self.platform.pcrs(self.measurement, b"")
        for index in range(_REGISTERS):
            value = at_launch.get(index)
            is_set = isinstance(value, bytes) and index < PCRS_AT_LAUNCH
            self.pcrs[index] = value if is_set and isinstance(value, bytes) else bytes(PCR_SIZE)
        self.locked |= set(range(PCRS_AT_LAUNCH))

    def ioctl(self, descriptor: int, request: int, message: bytearray, mutate: bool) -> int:  # noqa: ARG002, FBT001 - fcntl's signature
        """As ``fcntl.ioctl`` on the device."""
        if request != _NSM_IOCTL or not mutate or self.wrong == "errno":
            raise OSError(errno.EINVAL, "Invalid argument")
        out_at, out_size, into_at, into_size = _MESSAGE.unpack(message)
        asked = decode_cbor(ctypes.string_at(out_at, out_size), limit=0x1000, what="request")
        answer = self._spoiled(encode_cbor(self._answer(asked)))
        ctypes.memmove(into_at, answer, len(answer))
        size = into_size if self.wrong == "size_not_written" else len(answer)
        if self.wrong == "size_too_large":
            size = into_size + 1
        message[:] = _MESSAGE.pack(out_at, out_size, into_at, size)
        return 0

    def _answer(self, asked: Cbor) -> Cbor:  # noqa: PLR0911 - one for each request
        if not isinstance(asked, dict) or len(asked) != 1:
            return {"Error": "InvalidOperation"}
        ((name, members),) = asked.items()
        if not isinstance(members, dict) or self.wrong == "error":
            return {"Error": "InternalError"}
        index = members.get("index", 0)
        if not isinstance(index, int) or index not in self.pcrs:
            return {"Error": "InvalidIndex"}
        if name == "DescribePCR":
            return {name: {"lock": index in self.locked, "data": self.pcrs[index]}}
        if name == "ExtendPCR":
            return self._extend(index, members["data"])
        if name == "LockPCR":
            self.locked.add(index)
            return "LockPCR"
        return {name: {"document": self._document(members)}}

    def _extend(self, index: int, data: Cbor) -> Cbor:
        if index in self.locked or not isinstance(data, bytes):
            return {"Error": "ReadOnlyIndex"}
        self.pcrs[index] = hashlib.sha384(self.pcrs[index] + data).digest()
        return {"ExtendPCR": {"data": self.pcrs[index]}}

    def _document(self, members: dict[Key, Cbor]) -> bytes:
        nonce = members["nonce"]
        shown: dict[Key, Cbor] = {index: self.pcrs[index] for index in sorted(self.locked)}
        fields = self.platform.fields(
            nonce if isinstance(nonce, bytes) else b"",
            pcrs=shown,
            certificate=self.platform.fixed_leaf(),
            now=self.platform.clock(),
        )
        fields["nonce"] = nonce
        fields["public_key"] = members["public_key"]
        return self.platform.sign(encode_cbor(fields))

    def _spoiled(self, answer: bytes) -> bytes:
        match self.wrong:
            case "noise":
                return b"\xff\xff"
            case "another_answer":
                other: dict[Key, Cbor] = {"random": b"r"}
                return encode_cbor({"GetRandom": other})
            case "no_members":
                return encode_cbor({"DescribePCR": {}})
            case "no_lock":
                members: dict[Key, Cbor] = {"data": bytes(PCR_SIZE)}
                return encode_cbor({"DescribePCR": members})
            case "trailing":
                return answer + b"\x01"
            case _:
                return answer
