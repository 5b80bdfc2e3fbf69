"""The kit that TEEs are built from, shared by the evidence half and the policy half."""
