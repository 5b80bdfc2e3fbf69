"""A release in which owner and log sign with ML-DSA-65 too, as its policy demands."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from regalia.crypto.sign import SigningKey
from regalia.tlog.note import parse_log_key, verifier_key_text
from regalia_testing.tees.snp.defects import SnpDefects
from tests.broker.harness import ORIGIN, Deployment, Deviation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.harness import Shared


def test_everything_is_signed_by_pairs(shared: Shared, tmp_path: Path) -> None:
    pairs = copy.copy(shared)
    pairs.owner = SigningKey.generate_ml_dsa_65_p384()
    pairs.log_signer = SigningKey.generate_ml_dsa_65_ed25519()
    pairs.log_key = verifier_key_text(ORIGIN, pairs.log_signer.verify_key)
    deployment = Deployment(tmp_path, pairs, policy={"signatures": "post-quantum"})
    try:
        deployment.open(deployment.ask())
        debug = Deviation(defects=SnpDefects(debug=True))
        deployment.store.unwrapped.clear()
        assert "DEBUG_ENABLED" in deployment.denied(deployment.ask(debug))
        assert [record.decision for record in deployment.records()] == ["release", "denial"]
        assert parse_log_key(pairs.log_key).verify_key.post_quantum
    finally:
        deployment.close()
