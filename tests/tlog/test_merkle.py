"""RFC 6962 hashing against its reference roots and against pymerkle, and proofs under attack."""

from __future__ import annotations

import functools

import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import LogError
from regalia.tlog import merkle
from regalia.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    range_root,
    root_from_inclusion,
    verify_consistency,
)

# Leaves and roots of the Certificate Transparency reference tree.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
N = 70


class Tree:
    """A tree of N entries with every subtree hash and every root it had."""

    def __init__(self, size: int) -> None:
        self.leaves = [leaf_hash(b"entry %d" % i) for i in range(size)]
        self.hashes: dict[tuple[int, int], bytes] = {}
        self.roots = [EMPTY_ROOT]
        frontier = Frontier()
        for leaf in self.leaves:
            self.hashes.update(frontier.append(leaf))
            self.roots.append(frontier.root())

    def get(self, subtree: tuple[int, int]) -> bytes:
        return self.hashes[subtree]


@functools.cache
def tree() -> Tree:
    return Tree(N)


def test_reference_roots() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for count, want in enumerate(ROOTS, 1):
        assert Frontier.of(leaf_hash(leaf) for leaf in LEAVES[:count]).root().hex() == want


def test_pymerkle_agrees_on_every_root_and_proof() -> None:
    oracle = pymerkle.InmemoryTree(algorithm="sha256")
    for i in range(N):
        oracle.append_entry(b"entry %d" % i)
        assert oracle.get_root() == tree().roots[i + 1]
    for size in (1, 2, 3, 7, 8, 9, 63, 64, 65, N):
        for index in range(size):
            proof = oracle.prove_inclusion(index + 1, size)
            pymerkle.verify_inclusion(tree().leaves[index], tree().roots[size], proof)
            path = inclusion_path(index, size, tree().get)
            # pymerkle's path begins with the leaf itself.
            assert list(proof.path[1:]) == path


def test_every_inclusion_proof_verifies() -> None:
    for size in range(1, N + 1):
        for index in range(size):
            path = inclusion_path(index, size, tree().get)
            root = root_from_inclusion(tree().leaves[index], index, size, path)
            assert root == tree().roots[size] == range_root(0, size, tree().get)


def test_every_consistency_proof_verifies() -> None:
    for new in range(N + 1):
        for old in range(new + 1):
            path = consistency_path(old, new, tree().get)
            verify_consistency(old, tree().roots[old], new, tree().roots[new], path)


def test_resumed_frontier_goes_on_alike() -> None:
    for size in range(N):
        frontier = Frontier.resume(size, tree().get)
        assert frontier.root() == tree().roots[size]
        frontier.append(tree().leaves[size])
        assert frontier.root() == tree().roots[size + 1]


@given(st.integers(1, N), st.data())
@settings(max_examples=150, deadline=None)
def test_changed_inclusion_proofs_do_not_verify(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_path(index, size, tree().get)
    root = tree().roots[size]
    leaf = tree().leaves[index]

    def gives_root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bool:
        try:
            return root_from_inclusion(leaf, index, size, path) == root
        except LogError as exc:
            assert exc.code.name == "PROOF_INVALID"  # noqa: PT017 - refusing either way is right
            return False

    assert gives_root(leaf, index, size, path)
    for position in range(len(path)):
        changed = bytearray(path[position])
        changed[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
        assert not gives_root(leaf, index, size, [*path[:position], bytes(changed)])
        assert not gives_root(
            leaf, index, size, [*path[:position], bytes(changed), *path[position + 1 :]]
        )
        assert not gives_root(leaf, index, size, path[:position])
        assert not gives_root(leaf, index, size, path[:position] + path[position + 1 :])
    assert not gives_root(leaf, index, size, [*path, path[0] if path else leaf])
    for other in range(size):
        if other != index:
            assert not gives_root(leaf, other, size, path)
    assert not gives_root(leaf_hash(b"never logged"), index, size, path)
    for bad in (-1, size, size + 1):
        assert not gives_root(leaf, bad, size, path)


@given(st.integers(1, N), st.data())
@settings(max_examples=150, deadline=None)
def test_changed_consistency_proofs_do_not_verify(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    path = consistency_path(old, new, tree().get)
    old_root, new_root = tree().roots[old], tree().roots[new]

    def refused(
        path: list[bytes], old_root: bytes = old_root, new_root: bytes = new_root, old: int = old
    ) -> None:
        with pytest.raises(LogError, match="LOG_FORKED"):
            verify_consistency(old, old_root, new, new_root, path)

    for position in range(len(path)):
        changed = bytearray(path[position])
        changed[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
        refused([*path[:position], bytes(changed), *path[position + 1 :]])
        refused(path[:position])
    refused([*path, new_root])
    refused(path, old_root=leaf_hash(b"x"))
    refused(path, new_root=leaf_hash(b"x"))
    if old < new:
        refused(path, old=new + 1)
        refused([])


def test_an_empty_tree_is_a_prefix_only_with_its_own_root() -> None:
    with pytest.raises(LogError, match="LOG_FORKED"):
        verify_consistency(0, tree().roots[1], 5, tree().roots[5], [])
    with pytest.raises(LogError, match="LOG_FORKED"):
        verify_consistency(5, tree().roots[5], 4, tree().roots[4], [])


def test_a_leaf_is_never_taken_for_a_node() -> None:
    left, right = tree().leaves[:2]
    assert leaf_hash(left + right) != tree().roots[2]
    with pytest.raises(LogError):
        root_from_inclusion(left, 0, 1, [right])


def test_programmers_errors() -> None:
    with pytest.raises(ValueError, match="outside"):
        merkle.inclusion_path(1, 1, tree().get)
    with pytest.raises(ValueError, match="order"):
        merkle.consistency_path(2, 1, tree().get)
