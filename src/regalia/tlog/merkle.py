"""Merkle tree hashing and proofs of RFC 6962, section 2.1 (also RFC 9162, section 2.1).

This module only computes with hashes; a function argument looks stored ones up. A *subtree*
(level, position) is the complete tree over the leaves from ``position << level`` up to but not
including ``(position + 1) << level``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from regalia.core.errors import LogError
from regalia.tlog.codes import TlogCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HASH_SIZE = 32  # bytes, SHA-256
SIZE_MAX = (1 << 63) - 1  # entries; indexes must fit a signed 64-bit database column
PATH_MAX = 63  # hashes in the longest inclusion proof of a log of SIZE_MAX entries

EMPTY_ROOT = hashlib.sha256(b"").digest()

Subtree = tuple[int, int]


def leaf_hash(entry: bytes) -> bytes:
    """Hash of a leaf: SHA-256(0x00 ‖ entry).

    The different first bytes of leaves and nodes keep a node from being presented as a leaf.
    """
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).

    Args:
        left: hash of the left child, 32 bytes.
        right: hash of the right child, 32 bytes.
    """
    return hashlib.sha256(b"\x01" + left + right).digest()


def cover(start: int, end: int) -> list[Subtree]:
    """Complete subtrees of the RFC 6962 tree over leaves ``start`` to ``end``, left to right.

    Args:
        start: index of the first leaf. It must be a multiple of the largest power of two below
            the range's size, as it is for every node of an RFC 6962 tree.
        end: index after the last leaf.
    """
    out = []
    while start < end:
        level = (end - start).bit_length() - 1
        out.append((level, start >> level))
        start += 1 << level
    return out


def fold(hashes: Sequence[bytes]) -> bytes:
    """Root over the hashes of ``cover``. The tree is unbalanced, so join the rightmost first."""
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def range_root(start: int, end: int, get: Callable[[Subtree], bytes]) -> bytes:
    """Hash of the tree over leaves ``start`` to ``end``, from hashes of complete subtrees.

    Args:
        start: index of the first leaf, as for ``cover``.
        end: index after the last leaf.
        get: returns the hash of a complete subtree.
    """
    if start == end:
        return EMPTY_ROOT
    return fold([get(subtree) for subtree in cover(start, end)])


def _split(size: int) -> int:
    """The largest power of two smaller than ``size`` (k of RFC 6962)."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_path(index: int, size: int, get: Callable[[Subtree], bytes]) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962, section 2.1.1, from leaf to root.

    Args:
        index: index of the leaf, from 0.
        size: number of leaves of the tree.
        get: returns the hash of a complete subtree.

    Raises:
        ValueError: the tree has no such leaf, which is a bug of the caller.
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
    """PROOF(old, D[new]) of RFC 6962, section 2.1.2. Empty if ``old`` is 0 or ``new``.

    Args:
        old: number of leaves of the older tree.
        new: number of leaves of the newer tree.
        get: returns the hash of a complete subtree.

    Raises:
        ValueError: the older tree is larger, which is a bug of the caller.
    """
    if not 0 <= old <= new:
        raise ValueError("sizes out of order")
    if old in {0, new}:
        return []
    path: list[bytes] = []
    start, end = 0, new
    # b of SUBPROOF in the RFC: whether the current node is the old tree's root, which the
    # verifier has, so that the proof can omit it.
    known = True
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
    """Root that a leaf and its inclusion path imply (RFC 9162, section 2.1.3.2).

    Args:
        leaf: hash of the leaf, 32 bytes.
        index: index of the leaf, untrusted.
        size: number of leaves of the tree, untrusted.
        path: hashes of the inclusion proof, untrusted.

    Raises:
        LogError: PROOF_INVALID, the path's length does not fit index and size.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise LogError(TlogCode.PROOF_INVALID, f"index {index} is outside a log of {size} entries")
    # fn, sn and r of the RFC.
    node, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise LogError(TlogCode.PROOF_INVALID, "the path is too long")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            # The last node of a level may have no sibling; then it moves up unchanged.
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
    """Check that the first tree is a prefix of the second (RFC 9162, section 2.1.4.2).

    Args:
        old: number of leaves of the older tree.
        old_root: root of the older tree, trusted.
        new: number of leaves of the newer tree.
        new_root: root of the newer tree, signed by the log.
        path: hashes of the consistency proof, untrusted.

    Raises:
        LogError: LOG_FORKED, the proof does not show it.
    """
    if not 0 <= old <= new <= SIZE_MAX:
        raise _forked(f"a log of {old} entries cannot become one of {new}")
    if old in {0, new}:
        same = old_root == EMPTY_ROOT if old == 0 else old_root == new_root
        if path or not same:
            raise _forked(f"the trees of {old} and {new} entries differ")
        return
    # An old tree whose size is a power of two is a node of the new tree, so the proof omits it.
    hashes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not hashes or _roots_from_consistency(old, new, hashes) != (old_root, new_root):
        raise _forked(f"the log of {old} entries is no prefix of that of {new}")


def _roots_from_consistency(old: int, new: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes]:
    # Both roots are computed in one pass: ``first`` takes the hashes to the left of the old
    # tree's edge only, ``second`` takes all. The names fn, sn, fr and sr of the RFC are node,
    # last, first and second here.
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
    """Computes the root of a growing tree in O(log n) memory, entry by entry."""

    def __init__(self) -> None:
        self.size = 0
        # Hashes of the complete subtrees of ``cover(0, size)``, left to right: one for every bit
        # that is set in ``size``.
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> list[tuple[Subtree, bytes]]:
        """Add a leaf hash, and return all subtrees that it completes, starting with the leaf."""
        # As in binary addition of one: every trailing set bit of the size is a subtree that joins
        # with the new one to a subtree of twice the size.
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
        """Root of the current tree."""
        return fold(self._peaks) if self._peaks else EMPTY_ROOT

    @classmethod
    def of(cls, leaves: Iterable[bytes]) -> Frontier:
        """Build the frontier of a tree from all its leaf hashes."""
        frontier = cls()
        for leaf in leaves:
            frontier.append(leaf)
        return frontier

    @classmethod
    def resume(cls, size: int, get: Callable[[Subtree], bytes]) -> Frontier:
        """Restore the frontier of a stored tree.

        Args:
            size: number of leaves of the stored tree.
            get: returns the hash of a complete subtree.
        """
        frontier = cls()
        frontier.size = size
        frontier._peaks = [get(subtree) for subtree in cover(0, size)]
        return frontier
