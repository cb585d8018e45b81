"""Features: numbers computed from the event log, the facility, attributes and the request.

catalogue   YAML documents -> checked definitions, one per expanded name
plan        the definitions a policy needs -> arrays that drive the kernel, and `FeaturePlan.compute`
kernel      the one compiled function that runs every plan (`opcodes` is the contract between the two)
"""
