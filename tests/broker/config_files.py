"""A test's deployment as the files that ``regalia broker`` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.broker.harness import Deployment


def write_config(
    deployment: Deployment, folder: Path, origin: str, changes: Mapping[str, str]
) -> Path:
    """Write them, and return the configuration file.

    Args:
        deployment: whose documents and keys are written.
        folder: to make.
        origin: of its log.
        changes: settings by name, in TOML; an empty text leaves one out.
    """
    folder.mkdir()
    secrets = {
        "keys.json": deployment.shared.store_path.read_bytes(),
        "passphrase": deployment.shared.passphrase,
        "log.key": deployment.shared.log_signer.to_pem(None),
    }
    for name, data in secrets.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    (folder / "manifest.json").write_bytes(deployment.manifest)
    (folder / "policy.json").write_bytes(deployment.model_files().policy)
    (folder / "owner.pub").write_bytes(deployment.shared.owner.verify_key.to_pem())
    sections = {
        "listen": '"127.0.0.1:0"',
        "state.database": '"sqlite:///state.db"',
        "log.database": '"sqlite:///log.db"',
        "log.origin": f'"{origin}"',
        "log.key": '"log.key"',
        "keys.store": '"dev-file:keys.json"',
        "keys.passphrase_file": '"passphrase"',
        "attest.collateral": f'"{deployment.shared.platform.collateral_directory}"',
        "attest.dangerous_simulated_anchor": (
            f'"{deployment.shared.platform.collateral_directory}/ark.der"'
        ),
    }
    lines = [f"{name} = {value}" for name, value in (sections | changes).items() if value]
    lines += ["[[models]]", 'manifest = "manifest.json"', 'policy = "policy.json"']
    lines += ['owner_keys = ["owner.pub"]']
    path = folder / "broker.toml"
    path.write_text("\n".join(lines) + "\n")
    return path
