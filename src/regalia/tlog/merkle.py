"""Merkle tree hashing and proofs, RFC 6962 section 2.1 (also RFC 9162 section 2.1).

Everything here is arithmetic over hashes; where the hashes come from is an argument. A
*subtree* (level, position) is the complete tree over the leaves
``position << level`` up to ``(position + 1) << level``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from regalia.core.errors import LogError
from regalia.tlog.codes import TlogCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HASH_SIZE = 32  # bytes, SHA-256
SIZE_MAX = (1 << 63) - 1  # entries: indexes fit a signed 64-bit database column
PATH_MAX = 63  # hashes in an inclusion proof of a log of SIZE_MAX entries

EMPTY_ROOT = hashlib.sha256(b"").digest()

Subtree = tuple[int, int]


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right).

    Args:
        left: 32 bytes.
        right: 32 bytes.
    """
    return hashlib.sha256(b"\x01" + left + right).digest()


def cover(start: int, end: int) -> list[Subtree]:
    """Complete subtrees of the RFC 6962 tree over leaves ``start`` to ``end``, left to right.

    ``start`` is a multiple of the largest power of two below the range's size, as it is for
    every node of an RFC 6962 tree.

    Args:
        start: first leaf.
        end: one past the last leaf.
    """
    out = []
    while start < end:
        level = (end - start).bit_length() - 1
        out.append((level, start >> level))
        start += 1 << level
    return out


def fold(hashes: Sequence[bytes]) -> bytes:
    """Root over the hashes of ``cover``: the rightmost two are joined first."""
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def range_root(start: int, end: int, get: Callable[[Subtree], bytes]) -> bytes:
    """Hash of the tree over leaves ``start`` to ``end``, from hashes of complete subtrees.

    Args:
        start: first leaf, as for ``cover``.
        end: one past the last leaf.
        get: the hash of one complete subtree.
    """
    if start == end:
        return EMPTY_ROOT
    return fold([get(subtree) for subtree in cover(start, end)])


def _split(size: int) -> int:
    """The largest power of two smaller than ``size`` (k of RFC 6962)."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_path(index: int, size: int, get: Callable[[Subtree], bytes]) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1, leaf to root.

    Args:
        index: of the leaf, from 0.
        size: leaves of the tree.
        get: the hash of one complete subtree.

    Raises:
        ValueError: the tree has no such leaf (the caller's bug).
    """
    if not 0 <= index < size:
        raise ValueError("index outside the tree")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(middle, end, get))
            end = middle
        else:
            path.append(range_root(start, middle, get))
            start = middle
    path.reverse()
    return path


def consistency_path(old: int, new: int, get: Callable[[Subtree], bytes]) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962 section 2.1.2. Empty when ``old`` is 0 or ``new``.

    Args:
        old: leaves of the older tree.
        new: leaves of the newer tree.
        get: the hash of one complete subtree.

    Raises:
        ValueError: the older tree is larger (the caller's bug).
    """
    if not 0 <= old <= new:
        raise ValueError("sizes out of order")
    if old in {0, new}:
        return []
    path: list[bytes] = []
    start, end = 0, new
    known = True  # the old tree's root is still this node, so its verifier has the hash
    while old < end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(range_root(middle, end, get))
            end = middle
        else:
            path.append(range_root(start, middle, get))
            start = middle
            known = False
    if not known:
        path.append(range_root(start, end, get))
    path.reverse()
    return path


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Root that a leaf and its path imply (RFC 9162 section 2.1.3.2).

    Args:
        leaf: the leaf's hash, 32 bytes.
        index: of the leaf, untrusted.
        size: leaves of the tree, untrusted.
        path: untrusted.

    Raises:
        LogError: PROOF_INVALID if the path has another length than index and size demand.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise LogError(TlogCode.PROOF_INVALID, f"index {index} is outside a log of {size} entries")
    node, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise LogError(TlogCode.PROOF_INVALID, "the path is too long")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise LogError(TlogCode.PROOF_INVALID, "the path is too short")
    return root


def verify_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Return if the first tree is a prefix of the second (RFC 9162 section 2.1.4.2).

    Args:
        old: leaves of the older tree.
        old_root: its root, trusted.
        new: leaves of the newer tree.
        new_root: its root, signed by the log.
        path: untrusted.

    Raises:
        LogError: LOG_FORKED.
    """
    if not 0 <= old <= new <= SIZE_MAX:
        raise _forked(f"a log of {old} entries cannot become one of {new}")
    if old in {0, new}:
        same = old_root == EMPTY_ROOT if old == 0 else old_root == new_root
        if path or not same:
            raise _forked(f"the trees of {old} and {new} entries differ")
        return
    # A complete old tree is itself a node of the new one, so the proof leaves it out.
    hashes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not hashes or _roots_from_consistency(old, new, hashes) != (old_root, new_root):
        raise _forked(f"the log of {old} entries is no prefix of that of {new}")


def _roots_from_consistency(old: int, new: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes]:
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise _forked("the consistency proof is too long")
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise _forked("the consistency proof is too short")
    return first, second


def _forked(what: str) -> LogError:
    return LogError(TlogCode.LOG_FORKED, what)


class Frontier:
    """Root of a growing tree in O(log n) memory: for replaying a log entry by entry."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []  # of complete subtrees, left to right, as in ``cover``

    def append(self, leaf: bytes) -> list[tuple[Subtree, bytes]]:
        """Add a leaf hash; returns every complete subtree that it completes, leaf first."""
        completed = [((0, self.size), leaf)]
        node, position, level = leaf, self.size, 0
        while position & 1:
            node = node_hash(self._peaks.pop(), node)
            position, level = position >> 1, level + 1
            completed.append(((level, position), node))
        self._peaks.append(node)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Root of the tree so far."""
        return fold(self._peaks) if self._peaks else EMPTY_ROOT

    @classmethod
    def of(cls, leaves: Iterable[bytes]) -> Frontier:
        """Over all the leaf hashes."""
        frontier = cls()
        for leaf in leaves:
            frontier.append(leaf)
        return frontier

    @classmethod
    def resume(cls, size: int, get: Callable[[Subtree], bytes]) -> Frontier:
        """The frontier of a stored tree.

        Args:
            size: leaves of the stored tree.
            get: the hash of one complete subtree.
        """
        frontier = cls()
        frontier.size = size
        frontier._peaks = [get(subtree) for subtree in cover(0, size)]
        return frontier
