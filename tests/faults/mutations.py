"""The mutation check: with one safety guard taken away, the tests that guard it must fail.

A fault suite that passes says something only if it would not pass without what it guards. Each entry of `MUTATIONS`
takes one guard out of a copy of the sources (never of the sources themselves), runs the few short tests that should
notice, and expects them to fail.

    python tests/faults/mutations.py [NAME ...]      all, or those whose name contains one of the words; prints a table

    caught      a test failed, as it must
    MISSED      every test passed without the guard: the guard is not tested
    STALE       the text of the guard is not (or not once) in its file any more: mend the entry
    BROKEN      the tests could not be run at all with it, or fail with the guard in place (`--control`)

Add an entry with every guard that protects money or an answer: the shortest tests that fail without it, by name.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "src"
TESTS_S: Final = 240.0  # for the tests of one entry; a hang without the guard is noticed, too

SIMULATED: Final = "simulation/test_simulation_histories.py::test_simulation_no_history_breaks_an_invariant[0]"

Verdict = Literal["caught", "MISSED", "STALE", "BROKEN"]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One guard, and how to take it away. `file` is below src/decision_service, `tests` are below tests."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS: Final = (
    # --- the store ---
    Mutation(
        "a commit needs the version that was read", "store/scripts/commit.lua",
        "if version ~= expected then", "if false then",
        ("store/test_store_contract.py::test_store_moved_version_writes_nothing",),
    ),
    Mutation(
        "a decision is written once", "store/scripts/commit.lua",
        "'SET', frame, ARGV[5], 'NX'", "'SET', frame, ARGV[5]",
        ("store/test_store_contract.py::test_store_decision_is_written_once",),
    ),
    Mutation(
        "a write whose reply is lost is unknown", "store/lane.py",
        "future.set_exception(OutcomeUnknown(why) if write else StoreUnavailable(why))",
        "future.set_exception(StoreUnavailable(why))",
        ("store/test_store_faults.py::test_faults_lost_reply_of_commit_is_unknown_and_single",),
    ),
    Mutation(
        "a late reply is given to nobody else", "store/lane.py",
        "future, _, until, _, replies = waiting[0]",
        "while waiting[0][0].done() and len(waiting) > 1:\n                    waiting.popleft()\n"
        "                future, _, until, _, replies = waiting[0]",
        ("store/test_store_faults.py::test_faults_late_replies_reach_nobody",),
    ),
    Mutation(
        "a silent connection is given up", "store/lane.py",
        "return future.done() and now - sent_at > STALLED_S", "return False",
        ("store/test_store_faults.py::test_faults_silent_connection_is_replaced",),
    ),
    Mutation(
        "commands without a reply are bounded", "store/lane.py",
        "if self._choked or len(self._waiting) >= WAITING_MAX:", "if self._choked:",
        ("store/test_store_faults.py::test_faults_too_many_waiting_calls_are_refused",),
    ),
    Mutation(
        "a store that may evict is refused", "store/suitability.py",
        'if told.get("maxmemory-policy") != "noeviction":', "if False:",
        ("store/test_store_faults.py::test_faults_unsafe_configuration_is_named",),
    ),
    Mutation(
        "a store that does not sync is refused", "store/suitability.py",
        'if told.get("appendfsync") not in wanted:', "if False:",
        ("store/test_store_faults.py::test_faults_unsafe_configuration_is_named",),
    ),
    Mutation(
        "a log is whole records", "store/scripts/commit.lua",
        "if stored % 64 ~= 0 or #ARGV[3] % 64 ~= 0 or #ARGV[4] % 64 ~= 0 then", "if false then",
        ("store/test_store_contract.py::test_store_torn_records_are_refused",),
    ),
    Mutation(
        "an entry tells the version that its commit made", "store/scripts/commit.lua",
        "'version', ARGV[2], 'records', ARGV[4], unpack(ARGV, 9))\nelse",
        "'version', version, 'records', ARGV[4], unpack(ARGV, 9))\nelse",
        ("store/test_store_changes.py::test_changes_of_a_server_rebuild_every_customer",),
    ),
    Mutation(
        "whoever lost the lease of a place archives nothing", "store/scripts/archived.lua",
        "if not held or held:match('^%d+') ~= ARGV[1] or found[1] ~= ARGV[1] then", "if found[1] ~= ARGV[1] then",
        ("store/test_store_outbox.py::test_outbox_lapsed_owner_writes_nothing",),
    ),
    Mutation(
        "the head of a place moves from where it is expected", "store/scripts/archived.lua",
        "if (found[i + 1] or unset) ~= ARGV[i + 1] then", "if false then",
        ("store/test_store_outbox.py::test_outbox_head_moves_once",),
    ),
    Mutation(
        "nothing is trimmed that an earlier head does not cover", "store/outbox.py",
        "if stream_order(trim_through) > stream_order(expected.last_id):", "if False:",
        ("store/test_store_outbox.py::test_outbox_refuses_steps_back_and_trimming_ahead",),
    ),
    Mutation(
        "a partition without its marker has no new customers", "store/scripts/commit.lua",
        "if redis.call('GET', KEYS[5]) ~= expected:sub(3) then", "if false then",
        ("store/test_store_epoch.py::test_epoch_commit_decided_before_the_loss_is_refused",),
    ),
    Mutation(
        "who is unknown to a store that lost its history is not new", "store/redis.py",
        "if len(reply) > _KNOWN_WORDS and reply[_KNOWN_WORDS] != self._history.epoch:", "if False:",
        ("store/test_store_epoch.py::test_epoch_emptied_store_takes_nobody_for_new",
         "store/test_store_epoch.py::test_epoch_lost_partition_is_named"),
    ),
    Mutation(
        "a breaker closes when its probe is answered", "store/topology.py",
        "        self._held, self.lane = None, lane\n        self._mend()",
        "        if self._broken:\n            self._break()\n            raise StoreUnavailable('never')\n"
        "        self._held, self.lane = None, lane",
        ("store/test_store_breaker.py::test_breaker_dead_server_is_probed_alone",
         "store/test_store_breaker.py::test_breaker_frozen_server_meets_no_storm_when_it_thaws"),
    ),
    Mutation(
        "what is sent again is a tenth", "store/resends.py",
        "granted = left >= 1.0", "granted = True",
        ("store/test_store_breaker.py::test_breaker_resends_are_a_tenth",),
    ),
    Mutation(
        "too few replicas are no success", "store/replication.py",
        "return isinstance(reply, int) and reply >= self.number", "return True",
        ("store/test_store_replicated.py::test_replicated_short_of_replicas_is_unknown_and_so_is_the_replay",),
    ),
    # --- static answers ---
    Mutation(
        "what was sent is never answered for", "static_answers.py",
        "        if self.sent.holds(decision_id):\n            _refuse_sent()\n        try:", "        try:",
        ("service/test_service_static.py::test_a_lost_reply_is_never_answered_for",
         SIMULATED),
    ),
    Mutation(
        "a mark stays where the outcome is unknown", "service.py",
        "        except NOTHING_WRITTEN:", "        except Exception:",
        ("service/test_service_static.py::test_a_lost_reply_is_never_answered_for",
         SIMULATED),
    ),
    Mutation(
        "whoever decides looks into the journal first", "service.py",
        "                if static.pending:\n                    answer =",
        "                if False:\n                    answer =",
        ("service/test_service_static.py", SIMULATED),
    ),
    Mutation(
        "journalled approvals are delivered before the next decision", "service.py",
        "if self._static is not None and self._static.pending:\n                await",
        "if False:\n                await",
        ("service/test_service_static.py::test_one_small_amount_is_paid_and_seen_by_what_comes_next",
         SIMULATED),
    ),
    Mutation(
        "a static answer is synced before it is told", "journal/sqlite.py",
        "db.execute(\"PRAGMA synchronous = FULL\")", "db.execute(\"PRAGMA synchronous = OFF\")",
        ("faults/test_faults_disk.py::test_a_sync_that_fails_once_is_never_taken_for_one_that_did_not",),
    ),
    Mutation(
        "a static answer is not told after the deadline", "static_answers.py",
        "async with asyncio.timeout(left_s):", "async with asyncio.timeout(None):",
        (SIMULATED,),
    ),
    Mutation(
        "a small amount needs a clean line", "core/fallback.py",
        "and facility.days_past_due == 0", "",
        ("decide/test_decide_static.py::test_one_blemish_is_enough_to_hold",),
    ),
    Mutation(
        "who stands on a list is held without the store, too", "core/fallback.py",
        "return any(not named.isdisjoint(values) for values in policy.lists.values())", "return False",
        ("decide/test_decide_static.py::test_who_stands_on_a_list_is_held",),
    ),
    Mutation(
        "an attempt to connect is one attempt", "store/client.py",
        '"retry": Retry(NoBackoff(), 0),  # the default', '"retry": Retry(NoBackoff(), 10),  # the default',
        ("faults/test_faults_connecting.py::test_a_connection_reset_while_it_opens_is_unavailable",),
    ),
    # --- deciding ---
    Mutation(
        "a request id asks one question", "service.py",
        "if known and known != request.fingerprint:", "if False:",
        ("service/test_service_decide.py::test_a_request_id_cannot_ask_two_questions",),
    ),
    Mutation(
        "an old request is not decided again", "service.py",
        "if left_in(state.log, request, decision_id):", "if False:",
        ("service/test_service_clock.py::test_a_request_whose_answer_is_no_longer_kept_is_old_and_not_decided_again",),
    ),
    Mutation(
        "a snapshot is of now at the latest", "service.py",
        "if sent is None or sent.as_of_ms <= now_ms:", "if True:",
        ("service/test_service_decide.py::test_a_snapshot_dated_ahead_does_not_hide_what_is_booked_next",),
    ),
    Mutation(
        "a facility belongs to one customer", "service.py",
        "if owner != request.customer_id:", "if False:",
        ("service/test_service_decide.py::test_a_facility_of_another_customer_is_refused",),
    ),
    Mutation(
        "a turn that comes too late is passed on", "turns.py",
        "if place.done() and not place.cancelled():", "if False:",
        ("service/test_service_turns.py",),
    ),
    Mutation(
        "a hold pays nothing out", "core/merge.py",
        "hold, approved = _payout(asked, amount_minor)",
        "hold, approved = _payout(asked, amount_minor)[0], amount_minor",
        ("decide/test_decide_merge.py::test_an_outcome_pays_out_nothing_beside_a_hold_and_never_more_than_asked",),
    ),
    Mutation(
        "a settlement books what was approved", "judge.py",
        "if event.amount_minor not in (0, drawdown.amount_minor):", "if False:",
        ("decide/test_decide_recording.py", "service/test_service_settling.py"),
    ),
    Mutation(
        "an event counts once", "judge.py",
        "    if stored is None:\n        return ACCEPTED, record", "    if True:\n        return ACCEPTED, record",
        ("decide/test_decide_recording.py::test_an_event_counts_once_however_often_it_is_sent",),
    ),
    # --- the door ---
    Mutation(
        "a body is cut off at the cap", "api/call.py",
        "while message.get(\"more_body\") and size <= cap_bytes:", 'while message.get("more_body"):',
        ("api/test_api_connection.py::test_an_endless_chunked_body_is_cut_off",),
    ),
    Mutation(
        "an announced body over the cap is not read", "api/call.py",
        "if announced.isdigit() and int(announced[:20]) > cap_bytes:", "if False:",
        ("api/test_api_connection.py::test_an_announced_body_over_the_cap_is_not_waited_for",),
    ),
    Mutation(
        "headers must come in time", "api/connection.py",
        "self._watch = self.loop.call_later(seconds, self._late)", "self._watch = None",
        ("api/test_api_connection.py::test_half_sent_headers_are_closed",),
    ),
    Mutation(
        "header fields are counted", "api/connection.py",
        "if len(self.headers) >= self.headers_max:", "if False:",
        ("api/test_api_connection.py::test_oversize_headers_are_431",),
    ),
    Mutation(
        "the head of a request is known to its last byte", "api/direct.py",
        "if end < 0 or not data.startswith(self.after, end):", "if end < 0:",
        ("api/test_api_direct.py",),
    ),
    Mutation(
        "the length of a known head is that of the body", "api/direct.py",
        "return at if told.isdigit() and int(told) == len(data) - at else 0", "return at",
        ("api/test_api_direct.py",),
    ),
    Mutation(
        "a name that is given twice is looked at closely", "api/plain.py",
        "if not _names_are(body, names):", "if False:",
        ("api/test_api_plain.py",),
    ),
    Mutation(
        "what comes while a draw is answered has to wait", "api/connection.py",
        "        if self._drawing is None:\n            self._came", "        if True:\n            self._came",
        ("api/test_api_direct.py::test_what_is_sent_while_a_draw_is_answered_has_its_turn_afterwards",),
    ),
    Mutation(
        "without authentication only this machine is served", "api/access.py",
        'if not is_loopback(peer or "") or not names_loopback(headers.get(b"host", b"")):', "if False:",
        ("api/test_api_access.py::test_only_this_machine_is_served_without_authentication",),
    ),
    Mutation(
        "a key that is not known opens nothing", "api/access.py",
        "if principal is None:\n            raise Unauthenticated(\"the key or token does not hold\")",
        "if principal is None:\n            return LOCAL",
        ("api/test_api_access.py::test_wrong_credentials_are_401",),
    ),
    Mutation(
        "a token is signed as its key says", "api/tokens.py",
        'options={"require": ["exp", "iss", "aud", "sub"]}', 'options={"verify_signature": False}',
        ("api/test_api_access.py::test_a_token_that_does_not_hold_is_401",),
    ),
    Mutation(
        "a principal has a rate", "api/rate.py",
        "if bucket.tokens < 1.0:", "if False:",
        ("api/test_api_access.py::test_too_many_requests_are_429_with_their_headers",),
    ),
    Mutation(
        "a draw that would be late is shed", "admission.py",
        "        if predicted_s > room_s:\n            return True", "        if False:\n            return True",
        ("api/test_api_admission.py::test_a_draw_is_let_in_while_its_predicted_age_leaves_room",),
    ),
    # --- policies and scorecards ---
    Mutation(
        "a model is what its manifest says", "scorecards/files.py",
        "if found != manifest.model_sha256:", "if False:",
        ("scorecards/test_scorecards_files.py::test_one_digit_changed_is_refused_by_its_checksum",),
    ),
    Mutation(
        "a model scores its golden rows", "scorecards/files.py",
        "if not abs(margin - golden.margin) <= TOLERANCE:", "if False:",
        ("scorecards/test_scorecards_files.py::test_one_digit_changed_with_a_fitting_checksum_fails_the_golden_rows",),
    ),
    Mutation(
        "anchors are refused", "policies/files.py",
        "if event.anchor is not None:\n            self._findings.error", "if False:\n            self._findings.error",
        ("rules/test_rules_diagnostics.py", "rules/test_rules_yaml.py"),
    ),
    Mutation(
        "a policy is signed by enough", "policies/signatures.py",
        "if len(state.signed_by) < self.least:", "if False:",
        ("fleet/test_fleet_signatures.py::test_fleet_too_few_signatures_are_refused_in_words",),
    ),
    Mutation(
        "an older policy is not taken", "policies/signatures.py",
        "if policy.serial < highest:", "if False:",
        ("fleet/test_fleet_signatures.py::test_fleet_an_older_policy_needs_a_higher_serial",),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry; `said` is the end of what the tests printed."""

    mutation: Mutation
    verdict: Verdict
    took_s: float
    said: str = ""


@contextmanager
def copied_sources() -> Iterator[Path]:
    """A copy of src, compiled kernels included: their caches go by the sources' size and time, which are kept."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as directory:
        copy = Path(directory) / "src"
        shutil.copytree(SOURCES, copy, copy_function=shutil.copy2, ignore=shutil.ignore_patterns("*.pyc"))
        yield copy


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Exit status of the tests on the sources in `copy` (1 also if they did not end in time), and what they said."""
    command = [
        sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-m", "not slow",
        *(f"tests/{test}" for test in tests),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=TESTS_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            said, _ = process.communicate()
            return 1, f"{said[-1_000:]}\nnot done in {TESTS_S:.0f} s"
    return process.returncode, said[-1_500:]


def check(mutation: Mutation, copy: Path) -> Outcome:
    """Take one guard out of the copy, run its tests, and put it back."""
    began = time.monotonic()
    file = copy / "decision_service" / mutation.file
    whole, times = file.read_text("utf-8"), file.stat()
    if whole.count(mutation.old) != 1:
        return Outcome(mutation, "STALE", 0.0, f"found {whole.count(mutation.old)} times: {mutation.old!r}")
    file.write_text(whole.replace(mutation.old, mutation.new), "utf-8")
    try:
        status, said = run_tests(copy, mutation.tests)
    finally:
        file.write_text(whole, "utf-8")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    verdict: Verdict = {0: "MISSED", 1: "caught"}.get(status, "BROKEN")  # type: ignore[assignment]
    return Outcome(mutation, verdict, time.monotonic() - began, said)


def control(mutations: Sequence[Mutation], copy: Path) -> tuple[bool, str]:
    """Whether all their tests pass with every guard in place, and what they said."""
    tests = list(dict.fromkeys(test for mutation in mutations for test in mutation.tests))
    status, said = run_tests(copy, tests)
    return status == 0, said


def main() -> int:
    """Run the chosen entries and print the table; 1 unless every guard is caught."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("words", nargs="*", metavar="NAME", help="words in the names of entries")
    arguments.add_argument("--control", action="store_true", help="first run the tests with every guard in place")
    asked = arguments.parse_args()
    chosen = [m for m in MUTATIONS if not asked.words or any(word in m.name for word in asked.words)]
    bad: list[Outcome] = []
    with copied_sources() as copy:
        if asked.control:
            passed, said = control(chosen, copy)
            if not passed:
                print(said)
                print("BROKEN: these tests fail with every guard in place")
                return 1
        print(f"{'':8} {'s':>5}  guard taken away")
        for mutation in chosen:
            outcome = check(mutation, copy)
            print(f"{outcome.verdict:8} {outcome.took_s:5.1f}  {mutation.name} ({mutation.file})", flush=True)
            if outcome.verdict != "caught":
                bad.append(outcome)
    for outcome in bad:
        print(f"\n{outcome.verdict}: {outcome.mutation.name}\n{outcome.said}")
    print(f"{len(chosen) - len(bad)} of {len(chosen)} guards are guarded")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
