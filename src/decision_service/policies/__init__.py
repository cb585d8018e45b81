"""Policies on their way into force: read from disk, signed, compiled, published to the fleet, followed, watched.

    files, names, source     the files of a policy: read strictly, under names that are allowed, at rest
    signers, signatures      who must have signed them
    loading                  from files to a compiled policy, or every finding
    bundle, published        a policy's files as one numbered content in the store
    activation, guard        putting a candidate in force, and refusing one that would approve or block everybody
    in_force                 what decisions read
    sources, list_copies     everything a policy was made of, kept by content before it decides
    on_disk, disk_watch      news from the disk
    following, announcement  news from the fleet, and to it
    active_policy            all of it for one worker

What a policy is and how it decides is `core.policy`; nothing here decides.
"""
