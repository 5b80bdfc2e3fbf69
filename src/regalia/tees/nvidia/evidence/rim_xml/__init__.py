"""Ingest of NVIDIA's reference values: signed XML in, ``regalia/rim/v1`` out.

Needs the extra ``ingest`` (lxml, signxml). Run once for each driver and VBIOS release, by whoever
prepares the signed collateral; verifiers never import it. Spec: docs/spec/rim.md.
"""

from regalia.tees.nvidia.evidence.rim_xml.ingest import ingest_rim

__all__ = ["ingest_rim"]
