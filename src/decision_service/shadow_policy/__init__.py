"""The shadow policy: a whole candidate (rules, features, scorecards) beside the one in force, on the same decisions.

    worker    commit -> answer -> feeding ──a socket──▶ process of its own
              keeping starts, watches and ends it       candidate    what is in shadow, compiled; follows disk, fleet,
                                                                     lists
                                                        evaluating   the same request, state, links and clock again
                                                        counting     tallies and metrics
                                                        -> store: a record beside the decision, an outbox entry, tallies
    wire      what goes over the socket
    record    what is kept of one decision: both sides in the same words
    report    what the tallies say; `decision-service shadow report`

A shadow decides nothing. What goes wrong in it is told and counted, and never reaches an answer:

  * deciding again takes as long as deciding, so it is not done in the worker: that only packs what the decision was
    made of, in pieces, some time after the answer was written, and sends it. The process runs when nobody else wants
    its core (SCHED_IDLE);
  * what waits is bounded in number and bytes; what finds no room is not evaluated, and counted as dropped;
  * a candidate that does not compile is refused with its diagnostics, and the one before it stays in shadow;
  * a process that ends, hangs, is slow or fails on what it is given is ended and left alone for a while (`keeping`):
    the circuit is open, and nothing is sent meanwhile.

Not in shadow: previews, repeats, and static answers, which rest on nothing that was read. Entity logs that only the
shadow looks at were not read for the answer: its features of them are null, and its rung says `no_links`. Lists are
followed by the process itself, as workers follow them: within a second.
"""
