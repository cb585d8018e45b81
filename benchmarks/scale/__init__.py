"""Scale on paper, from measured numbers: what a customer and a decision cost, and what that adds up to.

    measure    a real Valkey and the real service, small: bytes, commands, network, disk and CPU, as JSON
    balance    how evenly the service's own hashes spread customers over partitions, slots and shards
    model      from measured figures and stated assumptions to cores, shards and what breaks first; pure functions
    page       the tables and plots
    run        the command

Modules here are named `scale.model` and so on; `benchmarks` is the folder to have on the path.
"""
