"""Reconcile: what a caller was told, beside what the journal and the store know of it; and repair.

    caller's list ──checked──▶ decision ids ──a page at a time──▶ frames ──▶ lost · different
    outbox        ──page──▶ ids that the list lacks ──▶ unaccounted
                     └──▶ frames and logs ──▶ damaged
    journal       ──▶ conflicts, and what still waits to be delivered

A store that fails over may lose what it acknowledged a moment before (asynchronous replication), and a restored backup
lacks everything since. Nobody but the caller, who moved the money, knows then what was answered: that list is the truth
here. What is lost is put back in such a way that exposure is never understated: a limit is not lent twice.

Memory is 8 bytes a row of the list (an outbox is looked through for what is *not* in it) and a page of frames, whatever
the list and the store hold. The list is read twice, so that a wrong row is refused before anything is changed.

    acknowledged  the caller's list, checked
    findings      what is wrong, told as it is found and counted
    comparing     the passes over list and outbox
    soundness     whether a decision of the store is whole
    journalled    journals of hosts: what waits there, delivering it, its conflicts
    restoring     writing back what is lost
"""
