"""RFC 6962 hashing against its reference roots and against pymerkle, and proofs under attack."""

from __future__ import annotations

import functools

import pymerkle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import LogError
from regalia.tlog.merkle import (
    EMPTY_ROOT,
    PATH_MAX,
    SIZE_MAX,
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
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


# -- proofs of another length than their sizes demand ---------------------------------------------
#
# A log signs whatever roots it likes. A proof is of no use if it holds for sizes that the roots
# do not have, so each of these roots is the one that its proof gives.


def refused(why: str) -> pytest.RaisesExc[LogError]:
    return pytest.raises(LogError, match=f"LOG_FORKED: .*{why}")


@pytest.mark.parametrize("old", [2, 3])
def test_a_consistency_proof_for_a_smaller_tree_is_too_short(old: int) -> None:
    path = consistency_path(old, 4, tree().get)
    verify_consistency(old, tree().roots[old], 4, tree().roots[4], path)
    for new in range(5, 9):
        with refused("too short"):
            verify_consistency(old, tree().roots[old], new, tree().roots[4], path)


@pytest.mark.parametrize("old", [2, 3])
def test_a_consistency_proof_with_a_further_hash_is_too_long(old: int) -> None:
    path = consistency_path(old, 4, tree().get)
    above = leaf_hash(b"above both roots")
    roots = [node_hash(above, tree().roots[size]) for size in (old, 4)]
    with refused("too long"):
        verify_consistency(old, roots[0], 4, roots[1], [*path, above])


def test_an_inclusion_proof_of_another_length() -> None:
    leaf, path = tree().leaves[2], inclusion_path(2, 4, tree().get)
    assert root_from_inclusion(leaf, 2, 4, path) == tree().roots[4]
    with pytest.raises(LogError, match=r"PROOF_INVALID: .*too long"):
        root_from_inclusion(leaf, 2, 4, [*path, path[0]])
    with pytest.raises(LogError, match=r"PROOF_INVALID: .*too short"):
        root_from_inclusion(leaf, 2, 5, path)


def test_sizes_that_no_growing_log_has() -> None:
    root = tree().leaves[0]
    verify_consistency(1, root, 1, root, [])
    with refused("cannot become"):
        verify_consistency(2, root, 1, root, [])
    with refused("cannot become"):
        verify_consistency(-1, root, 1, root, [root])
    with refused("cannot become"):
        verify_consistency(-1, root, -1, root, [])


# -- the largest log ------------------------------------------------------------------------------


@functools.cache
def uniform(level: int) -> bytes:
    """Hash of any complete subtree, if all entries are alike."""
    if level == 0:
        return leaf_hash(b"alike")
    return node_hash(uniform(level - 1), uniform(level - 1))


def of_uniform(subtree: tuple[int, int]) -> bytes:
    return uniform(subtree[0])


def test_the_largest_log_has_the_longest_path() -> None:
    assert SIZE_MAX == 2**63 - 1
    root = range_root(0, SIZE_MAX, of_uniform)
    for index in (0, 1, SIZE_MAX // 2, SIZE_MAX - 1):
        path = inclusion_path(index, SIZE_MAX, of_uniform)
        assert root_from_inclusion(uniform(0), index, SIZE_MAX, path) == root
    assert len(inclusion_path(0, SIZE_MAX, of_uniform)) == PATH_MAX
    with pytest.raises(LogError, match="PROOF_INVALID: index 0 is outside"):
        root_from_inclusion(uniform(0), 0, SIZE_MAX + 1, inclusion_path(0, 2**63, of_uniform))


def test_the_largest_log_has_consistency_proofs() -> None:
    root = range_root(0, SIZE_MAX, of_uniform)
    for old in (1, 2**62, SIZE_MAX - 1, SIZE_MAX):
        path = consistency_path(old, SIZE_MAX, of_uniform)
        verify_consistency(old, range_root(0, old, of_uniform), SIZE_MAX, root, path)
    with refused("cannot become"):
        verify_consistency(2**63, root, 2**63, root, [])


def test_the_empty_range() -> None:
    assert range_root(0, 0, tree().get) == range_root(5, 5, tree().get) == EMPTY_ROOT


def test_programmers_errors() -> None:
    for index in (-1, 1):
        with pytest.raises(ValueError, match="outside"):
            inclusion_path(index, 1, tree().get)
    for old, new in ((2, 1), (-1, 1)):
        with pytest.raises(ValueError, match="order"):
            consistency_path(old, new, tree().get)
