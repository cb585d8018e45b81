"""Load tests: one command (`run.py`), one workload each, latencies counted from the instant a request was due.

    run.py          the command: workload, table, JSON, HTML, exit status
    workloads.py    what each workload does; `targets.py` runs those that the targets are about
    bed.py          the processes of a run and the cores they are pinned to
    population.py   customers with histories, written straight into the store
    traffic.py      the requests: whose, about what, rendered before the clock starts
    schedule.py     when requests are due in an open loop; `zipf.py` whose they are
    plan.py         what the generator is told and what it tells
    generator.py    the load generator, a process of its own
    figures.py      percentiles, histogram and timeline of what it recorded
    stages.py       what the service's own stage histograms say of a run
    document.py     the result document: its form, whether it is valid, and the table for people

Nothing here is imported by the service. `customers.py` and `servers.py` beside it are shared with other benchmarks.
"""
