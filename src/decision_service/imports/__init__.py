"""Importing: facilities, attributes and histories of events from files into the store, once each.

    account.py      what became of the rows: counts, and every row that was refused
    refused.py      the report of refused rows: the first on standard error, all of them in a file
    slices.py       events of a file by customer, in bounded memory
    chunk.py        the next events of one customer: judged, then one atomic commit
    crew.py         many customers at the same time, not too many
    events.py       a file of events into the store
    terms.py        what an import works with and within
    snapshots.py    a file of facilities or attributes into the store

Nothing here can count twice. An event is known by its key, a snapshot by its instant, so a row that is there already
changes nothing, and a commit is conditional on the version that was read, as every other: an import may run beside a
service that decides, be killed at any moment and be run again.

    file ──▶ rows ──▶ slices of customers ──▶ chunks, read · judge · commit ──▶ account of the slice, kept in the store
                          │ (in memory, or beyond a budget in a temporary directory)
                          └ a slice that an earlier run finished is passed over

What is done of a file is kept in the store itself, under the digest of the file's content, and only after the commits
it tells of were acknowledged: a store that lost data has lost the account of it, too. Without it a second run takes
longer and changes nothing.
"""
