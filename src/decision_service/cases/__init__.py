"""Cases: histories and questions with the answers that the policy must give, as files that an analyst writes.

    case       what a case says: customers, steps of events and one request, what is expected
    reading    the YAML of a case, strictly read; every mistake with its place
    fields     YAML nodes as the bodies of the API's calls; instants relative to `now`
    calling    a case carried out: the calls it makes, on whatever answers them
    in_memory  the real service over the store in memory, with the case's clock
    expecting  an answer and its trace against what was expected
    parts      what a policy is made of: rule sets by scene, blocks and their cells
    coverage   what inline tests and cases never reach
    report     all of it as text and JSON

A case goes through the very bodies and parsers of the HTTP API, so what it shows is what the service does, and the
same file can be sent to a running server.
"""
