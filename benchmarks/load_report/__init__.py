"""What a load run found, as a page, as a table, and beside another run.

    document   the document that benchmarks/load writes: read, checked, its histogram as a curve
    noise      how far a figure wanders by itself within a run or between rounds, and whether a difference is more
    figures    the plots: percentiles, latency over time, stages, rate and knee, operations
    html       one document as a report
    compare    two documents as a report
    run        the command

`benchmarks` is the folder to have on the path: modules here are named `load_report.html` and so on, for a module named
`html` at the top would hide the standard library's.
"""
