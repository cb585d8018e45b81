"""Watching scorecards in production: is what they see and say still what they were trained on, and do they come true?

    answer ──▶ afterwards ──▶ counting ──every FLUSH_S──▶ store: a tally a series and day ──▶ gauges (/metrics)
    decision log in the store ──▶ decisions ──▶ tallies, outcomes ──▶ watching, comparing ──▶ page (report)

    series      who was counted: scorecard, version, role and scene
    tally       what is counted: bins of points and features, refusals, grades, answers
    counting    adds up tallies while the service decides, for the whole fleet
    decisions   the decision log read partition by partition
    outcomes    what became of the customers, from their logs
    quality     AUC, KS, calibration: does a score tell good from bad, and do its probabilities come true
    watching    one version's figures and findings; `models watch`
    comparing   champion against challenger and shadows; `models compare`
    *_page      the reports
    gauges      what /metrics says

Live counts are increments, sent at most once: a crash loses at most one flush interval, a reply that is lost loses what
it was about, and nothing is ever counted twice. The decision log has every decision, and both commands read that.
"""
