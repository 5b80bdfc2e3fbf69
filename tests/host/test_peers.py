"""One network is one peer, and tokens come back evenly."""

from __future__ import annotations

import pytest

from regalia.host import peers
from regalia.host.peers import Allowances, peer_of


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
        ("a name", "a name"),
    ],
)
def test_one_peer_is_one_network(host: str, peer: str) -> None:
    assert peer_of(host) == peer


def test_allowances_come_back_evenly() -> None:
    allowances = Allowances(6, seconds=60)
    assert [allowances.take("a", 0) for _ in range(7)] == [True] * 6 + [False]
    assert allowances.take("b", 0)
    assert not allowances.take("a", 9)
    assert not allowances.has("a", 9)
    assert allowances.refused("a") == 2
    assert allowances.take("a", 10.1)
    assert allowances.refused("a") == 0
    assert not allowances.take("a", 5)  # a clock that goes back gives nothing
    assert [allowances.take("a", 1000) for _ in range(7)] == [True] * 6 + [False]
    assert allowances.wait_s("a", 1000) == 10
    assert allowances.wait_s("a", 1005) == 5
    allowances.give_back("a")
    assert allowances.wait_s("a", 1005) == 0
    assert allowances.has("a", 1005)
    for _ in range(9):
        allowances.give_back("b")  # never more than there were
    assert [allowances.take("b", 1005) for _ in range(7)] == [True] * 6 + [False]


def test_so_many_peers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS_MAX", 2)
    allowances = Allowances(1, seconds=60)
    for key in ("a", "b", "a", "c"):
        allowances.take(key, 0)
    assert not allowances.has("a", 0)
    assert allowances.has("b", 0)  # it had not asked for longest, and begins anew
