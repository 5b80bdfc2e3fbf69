"""Evidence sources on real hardware: they open devices, on the attester's side only."""
