"""Feature tables: point-in-time rows for training, computed offline by the plan and the kernel that serve.

    events ──┐                                              ┌─ one pass a link grain ─┐
    facilities ├─ spilled by customer ─ questions answered ─┤  (spilled by entity)    ├─ the customer's plan ─ rows in
    attributes ┤   (positions, inputs)                      └─────────────────────────┘    order of the questions
    questions ─┘

    dtypes.py     what is spilled, as NumPy records
    spill.py      records on disk, in partitions
    questions.py  the file of questions: who is asked about, and when
    history.py    logs as the service would hold them, and the prefix of one that a question sees
    inputs.py     request rows and base numbers of many questions, as `fill_inputs` fills one
    table.py      what is to be computed: catalogue, plans and where each number stands
    stages.py     the passes, each over one partition at a time
    run.py        all of it over a pool of processes, and the file that comes out

Every question sees what the service would have seen: the events recorded before it (by `recorded_at`, then by place in
the file) that had occurred, the facility and attribute values reported by then, logs trimmed by the service's own
limits. Customers and entities are told apart by 64-bit digests, like events within a log.
"""

from decision_service.build.run import Build, Built, build

__all__ = ["Build", "Built", "build"]
