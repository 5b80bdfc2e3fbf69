"""Is what the evidence proves acceptable? Policies over claims; never over raw evidence.

``evaluate`` decides, ``pin`` writes a policy from known-good claims, ``explain`` says in
sentences what a policy demands and why claims were denied, ``document`` reads signed policies.
Nothing here opens a socket, reads a clock or touches a file. Spec: docs/spec/policy.md.
"""
