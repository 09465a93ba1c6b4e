"""Proves that tests can fail: breaks the code in one place at a time, in a copy of the tree, and runs the tests that should notice.

    python tests/mutants.py [NAME ...]        needs a Python environment with pytest; the copy and its build lie below build/mutants/

Prints one line a mutant, and ends with 1 if one of them was noticed by nobody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
COPY = HERE / "build" / "mutants" / "tree"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    before: str
    after: str
    tests: str  # What should go red, as arguments for pytest.


ENGINE, PYTHON, E2E = "engine/run/", "python/holdfast/", "tests/e2e/"
MUTANTS = (
    Mutant("fork-walks-back", PYTHON + "child.py", "if os.getpid() != self.owner:\n            os._exit(0)", "pass", E2E + "test_not_a_pass.py"),
    Mutant("no-exit-functions", PYTHON + "child.py", "    atexit._run_exitfuncs()", "    pass", E2E + "test_not_a_pass.py " + E2E + "test_deadlines.py " + E2E + "test_like_plain_pytest.py"),
    Mutant("interrupt-leaves-protocol", PYTHON + "worker.py", "    _report_interrupts_as_failures()\n    return config", "    return config", E2E + "test_deadlines.py " + E2E + "test_interrupts.py"),
    Mutant("capture-in-low-descriptors", PYTHON + "streams.py", "        _move_out_of_the_way(capture, file_fd)\n", "", E2E + "test_not_a_pass.py " + E2E + "test_victims.py " + E2E + "test_bad_input.py"),
    Mutant("threads-do-not-matter", PYTHON + "forksafe.py", "return _threads() or _gpu() or _mpi()", 'return ""', E2E + "test_fork_safety.py"),
    Mutant("deselected-unsaid", PYTHON + "worker.py", 'self.channel.send({"t": "deselected", "count": len(items)})', "pass", E2E + "test_like_plain_pytest.py"),
    Mutant("texts-uncut", PYTHON + "relay.py", "    if len(text) <= limit:\n        return text", "    return text", "tests/unit/test_relay.py"),
    Mutant("nobody-survives", ENGINE + "slot.cc", "if (from_ == nullptr || from_->pid == 0) return found;", "if (from_ == nullptr || from_->pid >= 0) return found;", E2E + "test_leaks.py"),
    Mutant("no-stacks", ENGINE + "slot_ladder.cc", "signal_test(kStackSignal);", "signal_test(0);", E2E + "test_deadlines.py"),
    Mutant("no-tree-kill", ENGINE + "slot_ladder.cc", "    if (current_->pid > 0) os::kill_descendants(current_->pid, [](pid_t) { return false; });\n", "", E2E + "test_fork_tree.py"),
    Mutant("start-unrecorded", ENGINE + "dispatcher.cc", "  if (resume_) replay();", "  if (resume_ && ids_.empty()) replay();", E2E + "test_killed.py"),
    Mutant("controller-gone-unnoticed", ENGINE + "dispatcher.cc", "[this](const std::string&) { abort_run(); }));", "[](const std::string&) {}));", E2E + "test_killed.py"),
    Mutant("two-verdicts", ENGINE + "dispatcher_verdicts.cc", "    if (log_) keep(log_->record(news.event));", "    if (log_) keep(log_->record(news.event)) && keep(log_->record(news.event));", E2E + "test_reports.py"),
    Mutant("exit-is-a-pass", ENGINE + "judge.cc", 'if (!evidence.done || (evidence.exit->code != 0 && !evidence.wrapped)) return "exited";', 'if (!evidence.done && evidence.exit->code == 0) return "passed";', E2E + "test_not_a_pass.py"),
    Mutant("no-second-judgement", ENGINE + "dispatcher_verdicts.cc", "if (attempt.reused && !attempt.before.empty() && !queue_.shares_scope(attempt.test)) return kJudgedAgain;", "", E2E + "test_worker_isolation.py"),
    Mutant("judged-again-for-ever", ENGINE + "dispatcher_verdicts.cc", "queue_.put_back(attempt.test, true, ", "queue_.put_back(attempt.test, false, ", E2E + "test_worker_isolation.py"),
    Mutant("announced-test-is-lost", ENGINE + "slot.cc", "  for (; !promised.empty(); promised.pop_back()) host_", "  for (; !promised.empty() && stopping_; promised.pop_back()) host_", E2E + "test_worker_isolation.py"),
    Mutant("next-test-unknown", PYTHON + "reuse.py", 'given["nextitem"] = worker.next_item()', "worker.next_item()", E2E + "test_worker_isolation.py"),
    Mutant("worker-out-of-step", ENGINE + "slot.cc", 'frame.value("test", SIZE_MAX) != attempt_.test', 'frame.value("test", attempt_.test) != attempt_.test', E2E + "test_not_a_pass.py -k speaks_for"),
    Mutant("retries-unbounded", ENGINE + "attempts.cc", "return used < limit->second;", "return used < limit->second + 1;", E2E + "test_retries.py"),
    Mutant("flaky-is-silent", ENGINE + "attempts.cc", 'if (flaky) notes.push_back("flaky");', "", E2E + "test_retries.py"),
    Mutant("history-unread", ENGINE + "dispatcher.cc", "if (known == known_.end()) continue;", "continue;", E2E + "test_order.py"),
    Mutant("tokens-ignored", "engine/plan/scheduler.cc", "      if (claim.exclusive || use.exclusive) return false;\n", "", E2E + "test_order.py"),
    Mutant("alone-ignored", "engine/plan/scheduler.cc", "  if (demand.alone) return false;\n", "", E2E + "test_order.py"),
    Mutant("coverage-of-the-zygote-only", PYTHON + "compat/__init__.py", '    """A process that ran tests is about to end."""\n    cov.save(config)', '    """A process that ran tests is about to end."""', "tests/plugins/test_plugins.py -k cov"),
    Mutant("scope-judged-again", ENGINE + "dispatcher_verdicts.cc", " && !queue_.shares_scope(attempt.test)) return kJudgedAgain;", ") return kJudgedAgain;", E2E + "test_scope_isolation.py"),
    Mutant("scopes-share-a-process", "engine/plan/scheduler.cc", "may_reuse(task) && problem_.tasks[task].process == places_", "may_reuse(task) && 0 * problem_.tasks[task].process != 1 + places_", E2E + "test_scope_isolation.py"),
    Mutant("worker-of-another-scope-stays", ENGINE + "dispatcher.cc", " && (queue_.wants_other_process(slot) || ", " && ((queue_.wants_other_process(slot) && stopping_) || ", E2E + "test_scope_isolation.py"),
    Mutant("scope-torn-down-by-tests", PYTHON + "scope.py", "self.state.teardown_exact = self.teardown_exact", "pass", E2E + "test_fork_tree.py"),
    Mutant("late-fixtures-stay", PYTHON + "scope.py", "        self._tear_down(self.collector, self._here)", "        self._tear_down(self.collector, [])", E2E + "test_fork_tree.py"),
    Mutant("threads-cross-forks", PYTHON + "forksafe.py", 'reason = _threads() or _mpi()', 'reason = ""', E2E + "test_fork_tree.py"),
    Mutant("loops-cross-forks", PYTHON + "forksafe.py", "if target in _EVENT_LOOPS:", "if target in ():", E2E + "test_fork_tree.py"),
    Mutant("connections-cross-forks", PYTHON + "forksafe.py", 'if target.startswith("socket:") and _is_connected(number):', 'if not target:', E2E + "test_fork_tree.py"),
    Mutant("skipped-tests-count", PYTHON + "scopes.py", "if not names or is_skipped(item):", "if not names:", E2E + "test_fork_tree.py"),
    Mutant("classes-set-up-apart", PYTHON + "scopes.py", "            _widen(depths[item], together[place], below)\n", "            pass\n", E2E + "test_fork_tree.py"),
    Mutant("slot-s-name-is-the-owner-s", PYTHON + "scope.py", "        runner.above.forget_slot()", "        pass", E2E + "test_fork_tree.py"),
    Mutant("scope-says-nothing", PYTHON + "scope.py", "            stack.enter_context(capture.item_capture(when, item))", "            pass", E2E + "test_fork_tree.py"),
    Mutant("teardown-not-waited-for", ENGINE + "dispatcher_scopes.cc", "  if (!due || held_.count(*due) != 0 || stopping_) return false;", "  if (!due || held_.count(*due) != 0 || !stopping_) return false;", E2E + "test_fork_tree.py"),
    Mutant("no-teardown-when-stopped", ENGINE + "dispatcher_scopes.cc", "  bool all = stopping_ && !any_busy();", "  bool all = false;", E2E + "test_fork_tree.py"),
    Mutant("fixtures-processes-are-leaks", ENGINE + "slot_scopes.cc", "    zygote->residents = os::children_of(zygote->pid);\n", "", E2E + "test_fork_tree.py"),
    Mutant("lost-scope-not-set-up-again", ENGINE + "dispatcher_scopes.cc", "  bool needed = tree_.at(scope).left > 0;\n  tree_.lost(scope);", "  bool needed = tree_.at(scope).left > 0;\n  tree_.over(scope, 0);\n  tree_.dead(scope);", E2E + "test_fork_tree.py"),
    Mutant("own-ignored", ENGINE + "dispatcher_scopes.cc", "if (!tests_[i].settled && !tests_[i].own && tree_", "if (!tests_[i].settled && tree_", E2E + "test_fork_tree.py"),
    Mutant("scopes-overlap", "engine/plan/scheduler.cc", "  if (problem_.one_chunk && (!may_open_ || is_open_elsewhere())) return std::nullopt;\n", "", E2E + "test_isoscope.py"),
    Mutant("next-scope-before-teardown", "engine/plan/scheduler.cc", "(!may_open_ || is_open_elsewhere())", "is_open_elsewhere()", E2E + "test_isoscope.py"),
    Mutant("everybody-is-last", ENGINE + "dispatcher_nodes.cc", '{"others", others}', '{"others", others && false}', E2E + "test_iso_scheduling.py"),
    Mutant("nobody-closes", ENGINE + "dispatcher_nodes.cc", "    if (!node.open || is_used(name)) continue;", "    if (true) continue;", E2E + "test_iso_scheduling.py"),
    Mutant("setup-unlocked", PYTHON + "compat/isoscope.py", "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", E2E + "test_iso_scheduling.py"),
    Mutant("orphans-stay", "shim/forkloop.c", "    waitpid(info.si_pid, NULL, WNOHANG);", "    return;", "tests/unit/test_forkloop.py"),
    Mutant("children-keep-descriptors", "shim/forkloop.c", "    close(polled[0].fd);\n    forget_children();\n    return 1;", "    close(polled[0].fd);\n    count = 0;\n    return 1;", "tests/unit/test_forkloop.py"),
    Mutant("handlers-of-forks-left-out", "shim/forkloop.c", "    child();\n  } else {", "    (void)child;\n  } else {", "tests/unit/test_forkloop.py"),
    Mutant("frozen-for-ever", PYTHON + "garbage.py", "        gc.unfreeze()", "        pass", "tests/unit/test_garbage.py"),
    Mutant("resource-made-by-tests", PYTHON + "resources.py", "if runner is None or runner.makes == mine:", "if True:", E2E + "test_resources.py"),
    Mutant("resource-never-checked", ENGINE + "broker.cc", "if (entry.state == State::Ready && !closing_) check(resource);", "", E2E + "test_resources.py"),
    Mutant("resource-dies-unseen", ENGINE + "broker.cc", 'if (is_current()) lose(resource, "its process has ended", false);', "", E2E + "test_resources.py"),
    Mutant("scopes-of-the-lost-stay", ENGINE + "broker.cc", "  host_.on_replaced(resource);\n", "", E2E + "test_resources.py"),
    Mutant("worker-keeps-the-old-value", PYTHON + "child.py", "request._fixturedef.finish(request)", "pass", E2E + "test_resources.py"),
    Mutant("breaker-not-blamed", ENGINE + "attempts.cc", "return !lost.empty() && times < 2;", "return !lost.empty() && times < 4;", E2E + "test_resources.py"),
    Mutant("leases-ignored", "engine/plan/scheduler.cc", "return use.most == 0 || others < use.most;", "return true;", E2E + "test_resources.py"),
    Mutant("resource-torn-down-first", ENGINE + "dispatcher_resources.cc", "if (needed && tree_.is_live(", "if (needed && !tree_.has(0) && tree_.is_live(", E2E + "test_resources.py"),
    Mutant("keeper-killed-with-the-engine", PYTHON + "keeper.py", "        with contextlib.suppress(BaseException):\n            self._tear_down()\n        kill_descendants", "        kill_descendants", E2E + "test_resources.py"),
    Mutant("controller-kills-keepers", PYTHON + "controller.py", "                if stray in self._keepers:\n                    self._reap(stray)\n                    continue\n", "", E2E + "test_resources.py"),
    Mutant("aborted-without-teardown", ENGINE + "dispatcher_end.cc", "return broker_.owns(pid) || (farm_", "return (farm_", E2E + "test_resources.py"),
    Mutant("setup-of-a-resource-not-charged", ENGINE + "broker.cc", '  host_.on_failed(entry.id, "setup", attempt);\n', "", E2E + "test_resources.py"),
    Mutant("given-up-never", ENGINE + "broker.cc", "return entry.unused_deaths >= kMaxDeaths || entry.blamed >= kMaxDeaths;", "return entry.blamed < -1;", E2E + "test_resources.py"),
    Mutant("children-by-the-fixtures-order", PYTHON + "children.py", "        tracker.finish(tracker.of_fixtures)", "        pass", E2E + "test_children.py"),
    Mutant("fixtures-children-are-killed", PYTHON + "children.py", "        tracker.of_fixtures.update(tracker.children())", "        pass", E2E + "test_children.py"),
    Mutant("only-direct-children", PYTHON + "children.py", "for root in waiting for pid in (root, *descendants_of(root))", "for root in waiting for pid in (root,)", E2E + "test_children.py"),
    Mutant("threads-share-children", PYTHON + "children.py", "if int(thread) not in others:", "if True:", E2E + "test_children.py"),
    Mutant("helpers-are-children", PYTHON + "children.py", "if pid not in helpers and (pid", "if (pid", E2E + "test_children.py"),
    Mutant("orphans-go-to-init", PYTHON + "children.py", "            if not _active:\n                _become_subreaper()\n", "", E2E + "test_children.py"),
    Mutant("guards-unmarked", PYTHON + "guards.py", "            item.add_marker(pytest.mark.timeout(found.seconds))", "            pass", E2E + "test_guards.py"),
    Mutant("guards-drift-unseen", PYTHON + "guards.py", "elif seconds > entry.seconds:", "elif seconds < 0:", E2E + "test_guards.py"),
    Mutant("no-last-resort", PYTHON + "guards.py", "faulthandler.dump_traceback_later(seconds, exit=True, file=self.stderr)", "pass", E2E + "test_guards.py"),
    Mutant("no-native-stack", "shim/crashnote.c", "    if (stacks_fd >= 0) write_native_stack(context);\n", "    if (stacks_fd >= 0 && owner < 0) write_native_stack(context);\n", E2E + "test_crash_report.py"),
    Mutant("frames-of-the-handler-stay", "shim/crashnote.c", "while (first < count && frames", "while (first < 0 && frames", E2E + "test_crash_report.py"),
    Mutant("failure-not-waited-for", ENGINE + "dispatcher.h", "(unseen_ > 0 || (pause_on_failure_ && parked_ > 0))", "(unseen_ > 0)", E2E + "test_resources.py -k first_failure"),
    Mutant("trail-sees-no-tempfile", "shim/trail.c", "    note_temporary(args);\n", "    (void)note_temporary;\n", E2E + "test_leaks.py"),
    Mutant("trail-of-forks-lost", PYTHON + "trail.py", "    return min(int(used), SIZE - _ENTRIES)", "    return 0", E2E + "test_leaks.py"),
    Mutant("dead-leave-nothing", ENGINE + "slot.cc", "if (!attempt.evidence.done && ended != nullptr) {", "if (false) {", E2E + "test_leaks.py"),
    Mutant("chosen-files-removed", PYTHON + "leaks.py", "yield from _left(entry.path)", 'yield from _remove(entry.path, "file", "file")', E2E + "test_leaks.py"),
    Mutant("foreign-memory-removed", PYTHON + "leaks.py", "if path in shared or _is_open_here(path):", "if True:", E2E + "test_leaks.py"),
    Mutant("state-stays", PYTHON + "leaks.py", "                    os.environ.pop(text, None)", "                    pass", E2E + "test_leaks.py"),
    Mutant("shared-fixtures-are-leaks", PYTHON + "leaks.py", "self._children |= ", "self._children &= ", E2E + "test_leaks.py"),
    Mutant("daemons-of-shared-fixtures-die", ENGINE + "slot_worker.cc", 'if (attempt_.done.value("shared", false)) orphans.clear();', "", E2E + "test_leaks.py"),
    Mutant("innocent-charged-with-daemons", ENGINE + "slot_worker.cc", "return std::find(before.begin(), before.end(), pid) != before.end() || ", "return ", E2E + "test_leaks.py"),
    Mutant("leaks-never-fail", ENGINE + "dispatcher_verdicts.cc", 'if (leaks == "fail") fail_for_leaks', 'if (leaks == "fall") fail_for_leaks', E2E + "test_leaks.py"),
    Mutant("nothing-looked-at", ENGINE + "postmortem.cc", "if (examiner.argv.empty() ||", "if (true ||", E2E + "test_postmortem.py"),
    Mutant("forks-not-asked", PYTHON + "diagnose.py", "has_our_handler(pid):", "not has_our_handler(pid):", E2E + "test_postmortem.py"),
    Mutant("peers-unknown", PYTHON + "waits.py", "self._peers = dict(_ask_for_peers())", "self._peers = {}", E2E + "test_postmortem.py"),
    Mutant("wrong-end-of-the-pipe", PYTHON + "waits.py", "(o.reads if writes else o.writes)", "(o.writes if writes else o.reads)", E2E + "test_postmortem.py"),
    Mutant("import-hang-not-looked-at", ENGINE + "root.cc", "processes_ = std::move(found);", "", E2E + "test_postmortem.py"),
    Mutant("kernel-not-believed", ENGINE + "dispatcher_verdicts.cc", "evidence.kernel_words = kernel_kills_.words_on(attempt.pid);", "", E2E + "test_postmortem.py"),
    Mutant("every-sigkill-is-oom", "engine/inventory/kernel_kills.cc", 'return is_counted ? "the control', 'return true ? "the control', E2E + "test_postmortem.py"),
    Mutant("no-looks-at-usage", ENGINE + "slot.cc", "    attempt_.usage.add(sample);\n", "", E2E + "test_postmortem.py"),
    Mutant("tool-is-taken-for-the-test", ENGINE + "slot.cc", "os::send_signal(current_->inner.valid() ? current_->inner : current_->pidfd, signal);", "os::send_signal(current_->pidfd, signal);", E2E + "test_wrap.py"),
    Mutant("startup-counts-as-findings", PYTHON + "child.py", "start = os.fstat(self.tool_log).st_size if", "start = 0 if", E2E + "test_wrap.py"),
    Mutant("wrapped-deadlines-unscaled", PYTHON + "worker.py", 'entry["timeout"] *= scale', "pass", E2E + "test_wrap.py"),
    Mutant("nothing-kept", ENGINE + "slot_ladder.cc", "if (page.crash_set == 1 && os::process_state(pid) == 'T') {", "if (false) {", E2E + "test_debug.py"),
    Mutant("kept-is-hurried", ENGINE + "slot_ladder.cc", "  if (kept_) return;\n", "", E2E + "test_debug.py"),
    Mutant("kept-in-ci", PYTHON + "options.py", '        ("CI is set", bool(os.environ.get("CI"))),\n', "", E2E + "test_debug.py"),
    Mutant("gpus-unseen", PYTHON + "gpu.py", '    os.environ.update(gpus["environment"])\n', "", E2E + "test_gpus.py -k sees_exactly"),
    Mutant("gpu-lease-unsaid-to-workers", ENGINE + "slot_worker.cc", 'if (!order.gpus.is_null()) frame["gpus"] = order.gpus;', "", E2E + "test_gpus.py -k sees_exactly"),
    Mutant("gpu-foreign-memory-unbooked", "engine/plan/device_book.cc", "demand.memory > entry.total - std::min(entry.total, entry.foreign)", "demand.memory > entry.total", E2E + "test_gpus.py -k what_others"),
    Mutant("gpu-memory-need-not-be-back", ENGINE + "devices.cc", "if (unaccounted(entry) > entry.unaccounted + kSlack) settling->late.push_back(device);", "", E2E + "test_gpus.py -k not_given_back"),
    Mutant("gpu-never-to-blame", ENGINE + "dispatcher_gpus.cc", "  if (suspicion.devices == 0) return false;", "  if (suspicion.devices != 99) return false;", E2E + "test_gpus.py -k lost"),
    Mutant("gpu-strikes-uncounted", ENGINE + "devices.cc", "if (++entry.strikes >= kMostStrikes", "if (entry.strikes >= kMostStrikes", E2E + "test_gpus.py -k three_failures"),
    Mutant("no-gpu-left-unsaid", ENGINE + "dispatcher_gpus.cc", "    if (!is_hopeless(i)) continue;", "    continue;", E2E + "test_gpus.py -k no_device_is_left"),
    Mutant("gpu-measured-unused", ENGINE + "wishes.cc", "  book_vram(wish, known.vram);", "", E2E + "test_gpus.py -k measured"),
    Mutant("poisoned-worker-stays", PYTHON + "gpu.py", "return bool(driver.cuCtxSynchronize() >= 200)", "return False", E2E + "test_gpus.py -k poisoned"),
    Mutant("gpu-kept-by-idle-worker", ENGINE + "dispatcher.cc", " || queue_.kept_lease(slot) != nullptr))", "))", E2E + "test_gpus.py -k sees_exactly"),
    Mutant("scope-gpu-is-lost", "engine/plan/scheduler.cc", "    place.kept = std::move(lease->second);\n", "", E2E + "test_gpus.py -k what_a_scope"),
    Mutant("simgpu-forgets-nobody", "shim/simgpu/state.c", "      atomic_fetch_sub(&device->used, process->bytes);", "", E2E + "test_simgpu.py -k killed"),
    Mutant("simgpu-heals-itself", "shim/simgpu/cuda_context.c", "    if (error != CUDA_SUCCESS) return error;", "    if (error != CUDA_SUCCESS) atomic_store(&context->error, 0);", E2E + "test_simgpu.py -k illegal"),
    Mutant("gang-without-all-its-slots", "engine/plan/scheduler.cc", "  if (demand.ranks > 1 && static_cast<int>(free_seats(slot).size()) < demand.ranks) return false;\n", "", E2E + "test_mpi.py -k many_gangs"),
    Mutant("gang-not-ended", ENGINE + "dispatcher_gangs.cc", "if (Slot* slot = find(slots[rank])) slot->end_with_gang();", "find(slots[rank]);", E2E + "test_mpi.py -k every_end"),
    Mutant("gang-blames-rank-0", ENGINE + "dispatcher_gangs.cc", "    gang.first_failed = rank;\n    log_event", "    gang.first_failed = 0;\n    log_event", E2E + "test_mpi.py -k every_end"),
    Mutant("mpi-threads-unsettled", PYTHON + "mpi.py", "        if not awake and now == before:\n", "        if now:\n", "tests/unit/test_mpi_threads.py"),
    Mutant("launched-ranks-mixed-up", "engine/mpi/launch.cc", "    if (lender.rank >= 0) ranks[static_cast<std::size_t>(lender.rank)] = &lender;\n", "    if (lender.rank >= 0) ranks[static_cast<std::size_t>(size_ - 1 - lender.rank)] = &lender;\n", E2E + "test_mpi_launchers.py -k can_be_kept"),
    Mutant("lost-launcher-unnoticed", ENGINE + "dispatcher_gangs.cc", "    gang->launcher_lost = true;\n    if (gang->left == 0) return;\n", "    return;\n", E2E + "test_mpi_launchers.py -k is_killed"),
    Mutant("launcher-unheard", ENGINE + "gang.cc", "  words = said;\n", "  return;\n", E2E + "test_mpi_launchers.py -k every_end"),
    Mutant("launchers-share-their-folder", PYTHON + "launchers.py", 'environment["OMPI_MCA_orte_tmpdir_base"] = FOLDER', "pass", E2E + "test_mpi_launchers.py -k others"),
    Mutant("launchers-folder-stays", "engine/os/temporary_folder.cc", "  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);\n", "", E2E + "test_mpi_launchers.py -k can_be_kept"),
    Mutant("spawned-programs-unreachable", PYTHON + "launchers.py", '    if "OMPI_MCA_btl" in environment:', "    if False:", E2E + "test_mpi_launchers.py -k spawned"),
    Mutant("mpi-size-unchecked", PYTHON + "mpi.py", "if found != (self.rank, self.size):", "if False:", E2E + "test_mpi.py -k does_not_fit"),
    Mutant("mpi-environment-held", PYTHON + "worker.py", "        mpi.end_hold()\n", "", E2E + "test_mpi.py -k programs_that_tests_start"),
    Mutant("mpi-memory-left", ENGINE + "world.cc", "  if (!world.folder.empty()) std::filesystem::remove_all(world.folder, ignored);\n", "", E2E + "test_mpi.py -k seeds_example"),
    Mutant("ranks-unpinned", PYTHON + "mpi.py", 'if order.get("cpus"):', "if False:", E2E + "test_mpi.py -k shell_scheduler"),
    Mutant("static-without-steps", ENGINE + "wishes.cc", '|| dealing.dist == "static" ||', "||", E2E + "test_mpi.py -k static_step"),
    Mutant("crash-in-circles", "shim/crashnote.c", "    bool again = is_passed_on;\n", "    bool again = false;\n", E2E + "test_crash_report.py -k circles"),
    Mutant("lost-node-forgets", ENGINE + "farm.cc", "        portions_.give_back(*test, host_.width(*test));\n", "", E2E + "test_slurm.py -k lost_node"),
    Mutant("waiting-job-stays", ENGINE + "farm.cc", 'gone_ ? "leave" : "cancel"', '"leave"', E2E + "test_slurm.py -k that_waits_is"),
    Mutant("nodes-run-everything", ENGINE + "dispatcher.cc", "tests_[i].settled = !chosen_[i];", "tests_[i].settled = chosen_.empty();", E2E + "test_slurm.py -k share_the_tests"),
    Mutant("token-stays", "engine/cli/main.cc", "  ::unsetenv(kTokenVariable);\n", "", E2E + "test_slurm.py -k that_it_gets_here"),
    Mutant("requeued-job-goes-on", PYTHON + "jobs/helper.py", 'if state.kind == "waiting" and self.was_running:', 'if state.kind == "never" and self.was_running:', E2E + "test_slurm.py -k requeued"),
    Mutant("same-worker-ids-on-nodes", PYTHON + "zygote.py", '"workerid": f"gw{self.first_slot + slot}"', '"workerid": f"gw{slot}"', E2E + "test_slurm.py -k share_the_tests"),
    Mutant("other-tests-on-a-node", ENGINE + "farm.cc", "if (here != ids.end() || there != node.found.end()) {", "if (ids.empty() && there != node.found.end()) {", E2E + "test_slurm.py -k collects_other"),
    Mutant("rank-runs-ordinary-tests", ENGINE + "dispatcher.cc", " || worlds_.count(slot) != 0)) {", ")) {", E2E + "test_mpi_pools.py -k ordinary"),
    Mutant("spoilt-pool-stays", ENGINE + "dispatcher_gangs.cc", "gang.ended_well = gang.lives_on();", "gang.ended_well = true;", E2E + "test_mpi_pools.py -k on_all_ranks"),
    Mutant("mpi-leftovers-unseen", PYTHON + "mpi.py", "left, clean = pool.leftovers(self.world(), given)", "left, clean = [], True", E2E + "test_mpi_pools.py -k taken_away"),
    Mutant("outer-ranks-run-too", PYTHON + "outer.py", "        os._exit(0)\n", "        return\n", E2E + "test_mpi_pools.py -k outer"),
    Mutant("dead-worlds-stay", ENGINE + "dispatcher_gangs.cc", "  if (!std::exchange(swept_, true)) sweep_folders();\n", "", E2E + "test_mpi_pools.py -k ended_leaves"),
    Mutant("abort-is-a-crash", ENGINE + "gang.cc", "    if (!evidence.ended_with_gang || evidence.done) continue;\n", "    continue;\n", E2E + "test_mpi_pools.py -k each_end"),
    Mutant('fault-counts-from-one-too-few', 'shim/fault/strike.c', 'if (nth <= fault->after ||', 'if (nth < fault->after ||', 'tests/e2e/test_fault_shim.py -k from_which_call'),
    Mutant('fault-times-without-end', 'shim/fault/strike.c', 'if (times != 0 && spent >= times) return false;', 'if (times != 0 && spent >= times + 100) return false;', 'tests/e2e/test_fault_shim.py -k from_which_call'),
    Mutant('fault-chance-without-seed', 'shim/fault/strike.c', 'uint64_t z = seed + ', 'uint64_t z = 0 * seed + ', 'tests/e2e/test_fault_shim.py -k chance'),
    Mutant('fault-before-its-time', 'shim/fault/strike.c', ' || (fault->from != 0 && now() < fault->from)) return;', ') return;', 'tests/e2e/test_fault_shim.py -k not_before'),
    Mutant('fault-of-another-rank', 'shim/fault/strike.c', ' || (fault->rank >= 0 && fault->rank != hf_rank)) return false;', ') return false;', 'tests/e2e/test_fault_shim.py -k only_the_device'),
    Mutant('fault-context-mends', 'shim/fault/strike.c', '  if (broken != 0) {', '  if (broken != 0 && false) {', 'tests/e2e/test_fault_shim.py'),
    Mutant('fault-device-not-latched', 'shim/fault/strike.c', '      if (fault->reach == HF_DEVICE) atomic_store(&fault->latched, 1);\n', '', 'tests/e2e/test_fault_shim.py'),
    Mutant('fault-hang-not-healed', 'shim/fault/control.c', '    atomic_fetch_and(&block->armed, ~bit);\n    wake_all(block);', '    wake_all(block);', 'tests/e2e/test_fault_shim.py'),
    Mutant('fault-first-without-stack', 'shim/fault/strike.c', '  write_stack(first->stack);\n', '  if (call == NULL) write_stack(first->stack);\n', 'tests/e2e/test_fault_shim.py -k has_its_stack'),
    Mutant('fault-not-through-getproc', 'shim/fault/specials.c', '*function = hf_in_front_of(name, *function, NULL);', '*function = *function;', 'tests/e2e/test_fault_shim.py -k its_own_ways'),
    Mutant('fault-last-error-unknown', 'shim/fault/specials.c', '  if (hf_api_of(call->function) == HF_RUNTIME) last_error = code;\n', '', 'tests/e2e/test_fault_shim.py -k runtime'),
    Mutant('fault-library-let-go', 'shim/fault/real.c', '  dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);\n', '', 'tests/e2e/test_fault_shim.py -k closed'),
    Mutant('fault-no-real-in-local-scope', 'shim/fault/real.c', '  if (found == NULL || is_ours(found)) found = through_library_of(caller, symbol);\n  if (found == NULL || is_ours(found)) found = through_known_names(symbol);\n', '  if (caller == symbol) found = through_library_of(caller, symbol);\n  if (caller == symbol) found = through_known_names(symbol);\n', 'tests/e2e/test_fault_shim.py -k rtld_local'),
    Mutant('fault-next-is-ours', 'shim/fault/real.c', 'if (handle == RTLD_NEXT || symbol == NULL || hf_function_of(symbol) < 0)', 'if (symbol == NULL || (hf_function_of(symbol) < 0 && handle != RTLD_NEXT))', 'tests/e2e/test_fault_shim.py -k finds_its_next'),
    Mutant('fault-cuda-where-there-is-none', 'shim/fault/real.c', 'return hf_real(entry, caller) != NULL ? real : NULL;', 'return hf_real(entry, caller) != NULL ? real : real;', 'tests/e2e/test_fault_shim.py -k without_cuda'),
    Mutant('fault-nvml-counts-as-cuda', 'shim/fault/devices.c', '    if (end != word && end == word + length && number == index) return place;', '    if (end != word && end == word + length && number == index) return (int)index;', 'tests/e2e/test_fault_shim.py -k as_the_process_sees'),
    Mutant('fault-event-for-ever', 'shim/fault/nvml_view.c', 'if (count >= atomic_load(&fault->occurred)) continue;', '(void)count;', 'tests/e2e/test_fault_shim.py -k events'),
    Mutant('fault-rows-lost', 'shim/fault/rows.c', '  if (held != 0) atomic_store(&mine[held - 1].state, 1);\n', '', 'tests/e2e/test_fault_shim.py -k lose_no_call'),
    Mutant('fault-forks-share-a-row', 'shim/fault/rows.c', 'void hf_rows_forked(void) {\n  hf_row = NULL;', 'void hf_rows_forked(void) {', 'tests/e2e/test_fault_shim.py -k fork_counts'),
    Mutant('fault-contradictions', 'shim/fault/wishes.c', 'fault->xid == other->xid) continue;', 'fault->xid == other->xid) continue;\n    if (size > 0) continue;', 'tests/e2e/test_fault_shim.py -k contradict'),
    Mutant('fault-corrupts-nothing', 'shim/fault/copies.c', '  flip(&copy, draw);\n', '  if (copy.bytes == 0) flip(&copy, draw);\n', 'tests/e2e/test_fault_shim.py -k corrupted'),
    Mutant('fault-unseen-passes', 'python/holdfast/faults/marked.py', '        self.faults.verify()', '        pass', 'tests/e2e/test_fault_runs.py -k declared'),
    Mutant('fault-armed-in-setup', 'python/holdfast/faults/marked.py', 'self.lab.prepare(fault) for fault', 'self.lab.arm(fault) for fault', 'tests/e2e/test_fault_runs.py -k declared'),
    Mutant('fault-not-healed-for-teardown', 'python/holdfast/faults/marked.py', '        for armed in self._armed:\n            armed.heal()\n            evidence', '        for armed in self._armed:\n            evidence', 'tests/e2e/test_fault_runs.py -k declared'),
    Mutant('fault-without-shim-passes', 'python/holdfast/faults/marked.py', '        if self._problem:\n', '        if False:\n', 'tests/e2e/test_fault_runs.py -k without_the_shim'),
    Mutant('fault-page-of-the-dead-unread', 'python/holdfast/fault_report.py', '        if self.folder and verdict not in PYTEST_VERDICTS:', '        if False:', 'tests/e2e/test_fault_runs.py -k dies_of'),
    Mutant('chaos-by-order', 'python/holdfast/faults/chaos.py', 'random.Random(f"{self.seed}/{nodeid}")', 'random.Random()', 'tests/e2e/test_fault_runs.py -k had_again'),
    Mutant('chaos-for-all', 'python/holdfast/faults/chaos.py', '        if draw.random() >= self.tests:\n            return []\n', '        draw.random()\n', 'tests/e2e/test_fault_runs.py -k had_again'),
    Mutant('fault-in-a-worker', 'python/holdfast/marks.py', '        given = {**given, "isolate": "test"}\n        wishes["faulted"]', '        wishes["faulted"]', 'tests/e2e/test_fault_runs.py -k in_a_worker'),
    Mutant("fault-own-entry-is-anything", "shim/fault/real.c", "  if (own >= 0 && hf_real((uint32_t)own, NULL) == real) return own;\n", "  if (own >= 0) hf_bind((uint32_t)own, real);\n  if (own >= 0) return own;\n", "tests/e2e/test_fault_shim.py -k its_own_ways"),
    Mutant("fault-blames-the-device", ENGINE + "dispatcher_gpus.cc", "if (ended.failed && !faulted) {", "if (ended.failed && (!faulted || own || good)) {", "tests/e2e/test_fault_runs.py -k held_against"),
    Mutant('faultd-token-unchecked', 'engine/serve/http_server.cc', 'if (!token.empty() && !is_open(request) &&', 'if (token.empty() && !is_open(request) &&', 'tests/e2e/test_faultd.py -k token'),
    Mutant('faultd-changes-unnoted', 'engine/serve/faults.cc', '    Result<std::int64_t> noted = log_.note(change);', '    Result<std::int64_t> noted = std::int64_t{0};', 'tests/e2e/test_faultd.py -k sweep_puts'),
    Mutant('faultd-for-ever', 'engine/serve/faults.cc', '    if (now >= since + fault->duration) {', '    if (now >= since + fault->duration + 1e6) {', 'tests/e2e/test_faultd.py -k duration'),
    Mutant('faultd-end-leaves', 'engine/serve/service.cc', '  faults.end(now());\n', '', 'tests/e2e/test_faultd.py -k told_to_end'),
    Mutant('faultd-any-process', 'engine/serve/undo.cc', '  if (!process || !is_same(step))', '  if (!process)', 'tests/e2e/test_faultd.py -k same_number'),
    Mutant('faultd-any-file', 'engine/serve/undo.cc', 'rfind(kFillPrefix, 0) != 0', 'rfind(kFillPrefix, 0) == 5', 'tests/e2e/test_faultd.py -k no_other_file'),
    Mutant('faultd-no-claim', 'engine/serve/deeds_network.cc', '  if (!link->claim()) {', '  if (!link->claim() && name.empty()) {', 'tests/e2e/test_faultd.py -k packets'),
    Mutant('faultd-nothing-lost', 'engine/serve/link.cc', 'draw(now.seed, count++) < now.loss', 'draw(now.seed, count++) < 0 * now.loss', 'tests/e2e/test_faultd.py -k packets'),
    Mutant('faultd-never-late', 'engine/serve/link.cc', '!lost && now.delay > 0 && waiting', '!lost && now.delay > 600 && waiting', 'tests/e2e/test_faultd.py -k packets'),
    Mutant('faultd-kernel-hears-nothing', 'engine/serve/deeds_gpu.cc', 'return line_.empty() ? Status() : kernel_.write(line_);', 'return Status();', 'tests/e2e/test_faultd.py -k kernels_log'),
    Mutant('faultd-two-services', 'engine/serve/service.cc', 'LOCK_EX | LOCK_NB) != 0)', 'LOCK_SH | LOCK_NB) != 0)', 'tests/e2e/test_faultd.py -k one_service'),
    Mutant('hw-unseen-is-fine', 'python/holdfast/faults/hardware.py', '            if not ended.get("verified"):', '            if False:', 'tests/e2e/test_hardware_faults.py -k nobody_met'),
    Mutant('hw-cordons-for-anything', 'python/holdfast/faults/hardware.py', 'if found and is_fatal(int(found.group(2))):', 'if found:', 'tests/e2e/test_hardware_faults.py -k no_reason'),
    Mutant('an-old-object-is-written', 'python/holdfast/deploy/local/store.py', 'if version and version != old["metadata"]["resourceVersion"]:', 'if version and False:', 'tests/e2e/test_local_cluster.py -k made_once'),
    Mutant('cordons-do-not-matter', 'python/holdfast/deploy/local/scheduler.py', '    if node["spec"].get("unschedulable"):\n        return "node(s) were unschedulable"\n', '', 'tests/e2e/test_local_cluster.py -k gpus_cordons'),
    Mutant('daemons-of-pods-stay', 'python/holdfast/deploy/local/pod.py', '        await asyncio.to_thread(containers.kill_marked, self.uid)\n', '', 'tests/e2e/test_local_cluster.py -k left_its_control_group'),
    Mutant("groups-of-containers-live-on", "python/holdfast/deploy/local/container.py", "                await asyncio.to_thread(self.group.end)\n", "", E2E + "test_local_cluster.py -k with_its_first_process"),
    Mutant("pods-join-no-group", "python/holdfast/deploy/local/container.py", "    group.join()\n", "", E2E + "test_local_cluster.py -k control_group -k more_memory"),
    Mutant("every-kill-wants-memory", "python/holdfast/deploy/local/container.py", "self.group.memory_kills() > killed", "self.group.memory_kills() >= killed", E2E + "test_local_cluster.py -k more_memory"),
    Mutant("groups-of-the-dead-stay", "python/holdfast/deploy/local/groups.py", "            _remove_stale(parent)\n", "", E2E + "test_local_cluster.py -k next_cluster"),
    Mutant("groups-of-the-living-go", "python/holdfast/deploy/local/groups.py", "        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "", E2E + "test_local_cluster.py -k next_cluster"),
    Mutant("memory-of-services-forgotten", "python/holdfast/deploy/controllers/graph.py", 'for name in ("cpu", "memory") if name in asked', "for name in () if name in asked", E2E + "test_managed_deployment.py -k memory"),
    Mutant('the-owned-stay', 'python/holdfast/deploy/local/garbage.py', 'if owners and not is_leaving(thing) and not any(', 'if owners and is_leaving(thing) and not any(', 'tests/e2e/test_local_cluster.py -k owner'),
    Mutant('services-lead-to-the-dead', 'python/holdfast/deploy/local/services.py', ' and is_ready(pod)', '', 'tests/e2e/test_local_cluster.py -k service_leads'),
    Mutant('quarantine-of-others-ends', 'python/holdfast/deploy/quarantine.py', '            if others or self.quarantined:', '            if self.quarantined:', 'tests/e2e/test_deployment_faults.py -k real_fault'),
    Mutant('cordons-of-others-end', 'python/holdfast/deploy/quarantine.py', '            if cordoned_by_it and not self.unschedulable:', '            if cordoned_by_it or self.unschedulable:', 'tests/e2e/test_deployment_faults.py -k somebody_else'),
    Mutant('any-cordon-is-ours', 'python/holdfast/deploy/hardware.py', '            return cordoned and bool(found), ', '            return cordoned, ', 'tests/e2e/test_deployment_faults.py -k cordon_for_others'),
    Mutant('faults-need-not-be-met', 'python/holdfast/deploy/hardware.py', '            if not any(one.get("verified") for one in ended):', '            if not ended:', 'tests/e2e/test_deployment_faults.py -k nobody_has_met'),
    Mutant('affinity-stays', 'python/holdfast/deploy/hardware.py', '    _put_back(pod, "affinity", old_pod.get("affinity"))\n', '', 'tests/e2e/test_deployment_faults.py -k what_is_broken'),
    Mutant('old-readiness-counts', 'python/holdfast/deploy/hardware.py', '        return self._resource.is_current() and said.get("status") == "True", ', '        return said.get("status") == "True", ', 'tests/e2e/test_deployment_faults.py -k what_is_broken'),
    Mutant('nothing-is-recorded', 'python/holdfast/deploy/hardware.py', '            await self._connection.run(self._record.node(where, found, mark))', '            pass', 'tests/e2e/test_deploy_sweep.py -k injected'),
    Mutant('a-sweep-does-not-heal', 'python/holdfast/deploy/sweep.py', 'said.append(json.dumps(client.recover(str(fault["fault_id"]))))', 'said.append("")', 'tests/e2e/test_deploy_sweep.py -k cordoned'),
    Mutant('a-sweep-takes-all', 'python/holdfast/deploy/sweep.py', '(self._run is None and is_over(thing))', 'self._run is None', 'tests/e2e/test_deploy_sweep.py -k platform'),
    Mutant('cancelled-for-good', 'python/holdfast/deploy/managed.py', 'problems = await asyncio.shield(leaving)', 'problems = await leaving', 'tests/e2e/test_managed_deployment.py -k cancelled_it'),
    Mutant('names-are-shared', 'python/holdfast/deploy/managed.py', '        if self.graph.find():', '        if False:', 'tests/e2e/test_managed_deployment.py -k taken'),
    Mutant('suites-lose-their-options', 'python/holdfast/compat/hw_faults.py', 'with contextlib.suppress(ValueError):', 'with contextlib.nullcontext():', 'tests/e2e/test_deployment_faults.py -k have_the_options'),
    Mutant('gpus-by-number', 'engine/serve/deeds_gpu.cc', '  wish.wish.device = -1;\n  return gpu;', '  wish.wish.uuid = nullptr;\n  return gpu;', 'tests/e2e/test_faultd.py -k whatever'),
    Mutant('settled-at-first-sight', 'python/holdfast/deploy/settle.py', '        if await _stays(connection, stable, now):', '        if True:', 'tests/e2e/test_settle.py -k late'),
    Mutant('seed-unused', 'python/holdfast/deploy/scenario/context.py', 'return random.Random(f"{self.seed}:{event}")', 'return random.Random(event)', 'tests/unit/test_scenario_files.py -k drawn'),
    Mutant('unverified-fault-passes', 'python/holdfast/deploy/scenario/checks.py', 'if outcome != EFFECTIVE and name not in self.except_]', 'if outcome is None and name not in self.except_]', 'tests/e2e/test_scenarios.py -k has_not_struck'),
    Mutant('first-failed-check-ends', 'python/holdfast/deploy/scenario/runner.py', '    except Exception as problem:  # Also an assert', '    except OSError as problem:  # Also an assert', 'tests/e2e/test_scenarios.py -k all_checks'),
    Mutant('report-of-good-runs-only', 'python/holdfast/deploy/scenario/runner.py', '    finally:\n        report.write()', '    report.write()', 'tests/e2e/test_scenarios.py -k has_a_report'),
    Mutant('triggers-in-the-sequence', 'python/holdfast/deploy/scenario/runner.py', 'if not event.has_trigger and not await', 'if not await', 'tests/e2e/test_scenarios.py -k triggers'),
    Mutant('time-trigger-ignored', 'python/holdfast/deploy/scenario/runner.py', 'await asyncio.sleep(event.at - context.now())', 'pass', 'tests/e2e/test_scenarios.py -k triggers'),
    Mutant('for-ignored', 'python/holdfast/deploy/scenario/runner.py', '        await asyncio.sleep(seconds)\n        try:', '        try:', 'tests/e2e/test_scenarios.py -k overlap'),
    Mutant('page-unescaped', 'python/holdfast/deploy/scenario/page.py', 'return html.escape(str(value))', 'return str(value)', 'tests/unit/test_scenario_files.py -k page'),
    Mutant('load-end-unheard', 'python/holdfast/deploy/scenario/load.py', '            self._over = True\n            self.context.ring()', '            self._over = True', 'tests/e2e/test_scenarios.py -k one_after_the_other'),
    Mutant('unknown-keys-pass', 'python/holdfast/deploy/scenario/reading.py', '    near = difflib', '    if words:\n        return words[0]\n    near = difflib', 'tests/unit/test_scenario_files.py -k cannot_be'),
    Mutant('late-pods-stay', 'python/holdfast/deploy/local/kubelet.py', '            self._remove(uid, thing)\n            return', '            return', 'tests/unit/test_kubelet.py'),
    Mutant('deletes-any-of-that-name', 'python/holdfast/deploy/local/server.py', 'if wanted not in (None, uid):', 'if False:', 'tests/e2e/test_local_cluster.py -k changed_and_removed'),
    Mutant('anybody-asks-nodes', 'python/holdfast/deploy/local/endpoint.py', 'if not _may_ask(request):', 'if False:', 'tests/e2e/test_real_control_plane.py -k api_server_alone'),
    Mutant('expired-is-unknown', 'python/holdfast/deploy/api.py', 'if status != 401:', 'if True:', 'tests/e2e/test_real_control_plane.py -k not_let_in'),
    Mutant('before-includes-the-struck', 'python/holdfast/deploy/scenario/checks.py', 'one.ended <= end and self.load', 'one.at < end and self.load', 'tests/unit/test_scenario_files.py -k under_way'),
    Mutant('recovery-at-the-first-success', 'python/holdfast/deploy/scenario/checks.py', 'last_bad = max(', 'last_bad = min(', 'tests/unit/test_scenario_files.py -k recovery'),
    Mutant('nodes-stay-when-they-leave', 'python/holdfast/deploy/local/joined.py', '        for kind, namespace in ((NODE, ""), (LEASE, _LEASES)):', '        for kind, namespace in ((LEASE, _LEASES),):', 'tests/e2e/test_real_control_plane.py -k leave_as_they_came'),
    Mutant("install-forgets-its-label", "python/holdfast/deploy/install.py", "**labels_of(thing), **_OURS}", "**labels_of(thing)}", "tests/unit/test_install.py -k left_out"),
    Mutant("install-without-quarantine-hides-lines", "python/holdfast/deploy/install.py", 'return KERNEL_LOG if self.quarantine else "kmsg"', "return KERNEL_LOG", "tests/unit/test_install.py -k left_out"),
    Mutant("plugin-hides-lost-gpus", "python/holdfast/deploy/inside/plugin.py", '"Unhealthy" if device.lost else "Healthy"', '"Healthy"', "tests/unit/test_install.py -k plugin"),
    Mutant("plugin-registers-once", "python/holdfast/deploy/inside/plugin.py", "while (self._sockets / _OWN).exists():", "while True:", "tests/unit/test_install.py -k plugin"),
    Mutant("prepare-makes-devices-anew", "python/holdfast/deploy/inside/prepare.py", 'if not (gpus / "devices").exists():', "if True:", "tests/unit/test_install.py -k prepared"),
    Mutant("simgpu-takes-numbers-of-others", "shim/simgpu/state.c", "if (process->space != own) {", "if (0) {", E2E + "test_simgpu.py -k name_spaces"),
    Mutant("faultd-takes-any-container", "engine/serve/container.cc", 'return good ? id : "";', "return id;", E2E + "test_faultd.py -k what_cannot"),
    Mutant("partition-stays", "engine/serve/undo.cc", "set_cable(cable, true)", "set_cable(cable, false)", E2E + "test_real_kubelets.py -k partitioned"),
    Mutant("processes-are-the-nodes-own", "engine/serve/container.cc", "== inner) return", "> 0) return", E2E + "test_real_kubelets.py -k known_by"),
    Mutant("shards-of-others-count", PYTHON + "targets/ask.py", "if name not in NOT_THEIRS", "if name", E2E + "test_list.py -k of_others"),
    Mutant("asked-without-end", PYTHON + "targets/ask.py", "            os.killpg(process.pid, signal.SIGKILL)\n", "            pass\n", E2E + "test_list.py -k something_else"),
    Mutant("floods-are-kept", PYTHON + "targets/ask.py", "                if not whole:\n", "                if False:\n", E2E + "test_list.py -k writes_without_end"),
    Mutant("catch-specifications-are-names", PYTHON + "targets/catch2.py", '_SPECIAL.sub(r"\\\\\\1", name)', "name", E2E + "test_list.py -k runs_alone"),
    Mutant("doctest-without-its-suite", PYTHON + "targets/doctest.py", '        command.append("--test-suite-exclude=?*")\n', "        pass\n", E2E + "test_list.py -k runs_alone"),
    Mutant("disabled-tests-do-not-run", PYTHON + "targets/googletest.py", '["--gtest_also_run_disabled_tests"] if disabled', "[] if disabled", E2E + "test_list.py -k runs_alone"),
    Mutant("every-key-is-one", PYTHON + "targets/commands.py", "        if key not in known:\n", "        if False:\n", E2E + "test_list.py -k commands_that_cannot_be"),
    Mutant("programs-that-die-have-failed", ENGINE + "judge.cc", '  if (evidence.program) return evidence.program->signalled ? "crashed" : "exited";\n', "", E2E + "test_run_native.py -k each_way"),
    Mutant("exit-zero-is-a-pass", PYTHON + "targets/running.py", "    if told is None:\n        return Outcome(\"\", status=status)\n", "    if told is None:\n        return Outcome(\"passed\")\n", E2E + "test_run_native.py -k each_way"),
    Mutant("programs-without-notes", PYTHON + "targets/notes.py", "find_crashnote() if _can_load(program) else None", "None", E2E + "test_run_native.py -k each_way"),
    Mutant("deadlines-leave-programs", PYTHON + "targets/running.py", "            process.kill()\n", "            pass\n", E2E + "test_run_native.py -k each_way"),
    Mutant("nobody-waits-for-others", ENGINE + "dispatcher.cc", "    if (farm_ == nullptr && precedence_.waits(i)) queue_.settle(i);", "    if (false) queue_.settle(i);", E2E + "test_run_native.py -k build_folder"),
    Mutant("setup-may-fail", ENGINE + "precedence.cc", "    bool hopeless = needs && !good;\n", "    bool hopeless = needs && good;\n", E2E + "test_run_native.py -k without_its_fixture"),
    Mutant("will-fail-is-not-turned", PYTHON + "targets/running.py", "    if not expected.will_fail:\n", "    if True:\n", E2E + "test_run_native.py -k build_folder"),
    Mutant("printed-before-is-lost", PYTHON + "present.py", "_sections(detail, when) + _captured(interrupted)", "_sections(detail, when)", E2E + "test_deadlines.py -k printed"),
    Mutant("programs-are-judged-again", ENGINE + "dispatcher_verdicts.cc", "test.program ? attempt.evidence.batched : ", "", E2E + "test_run_native.py -k each_way"),
    Mutant("passes-of-bad-batches", PYTHON + "targets/batch.py", "        if ended.status != 0 or set(told) - set(wanted):\n", "        if False:\n", E2E + "test_batches.py -k goes_wrong"),
    Mutant("batches-are-not-said", PYTHON + "child.py", '        done["batched"] = True\n', "        pass\n", E2E + "test_batches.py -k among_others"),
    Mutant("the-engine-forgets-batches", ENGINE + "slot.cc", '    attempt_.evidence.batched = frame.value("batched", false);\n', "", E2E + "test_batches.py -k among_others"),
    Mutant("batches-without-end", PYTHON + "targets/batch.py", "LIMIT = 1.0", "LIMIT = 100.0", E2E + "test_batches.py -k goes_wrong"),
    Mutant("batches-for-everybody", PYTHON + "targets/plugin.py", 'isolation_of(self.config) == "worker"', "True", E2E + "test_batches.py -k share_a_process"),
    Mutant("batches-of-strangers", ENGINE + "dispatcher.cc", "batch ? following.batch != last.batch : following.usual < 0", "following.usual < 0", E2E + "test_batches.py -k share_a_process"),
    Mutant("bad-batches-go-on", PYTHON + "targets/item.py", "self.test.name not in self._suite.batch_end.tests:", "self.test.name not in self._suite.batch_end.outcomes:", E2E + "test_batches.py -k goes_wrong"),
    Mutant("failures-go-on", ENGINE + "dispatcher_again.cc", "  if (!is_good(said)) {\n", "  if (false) {\n", E2E + "test_again.py -k so_often"),
    Mutant("rounds-without-count", ENGINE + "dispatcher_again.cc", "test.passes >= again_.times", "test.passes > again_.times", E2E + "test_again.py -k so_often"),
    Mutant("rounds-without-order", ENGINE + "dispatcher_again.cc", "  if (waits_for_round_.empty() || !(stopping_ || queue_.empty())) return;\n", "", E2E + "test_again.py -k none_runs_again"),
    Mutant("notes-of-the-last-run-only", ENGINE + "dispatcher_again.cc", "  if (verdict.notes.empty()) {\n", "  if (false) {\n", E2E + "test_again.py -k left_is_told"),
    Mutant("intermittent-is-forgiven", ENGINE + "dispatcher_verdicts.cc", " && test.passes == 0) return kJudgedAgain;", ") return kJudgedAgain;", E2E + "test_again.py -k so_often"),
    Mutant("every-word-is-an-option", PYTHON + "project.py", "        if key not in names:\n", "        if False:\n", E2E + "test_config.py -k mistakes"),
    Mutant("profiles-come-last", PYTHON + "project.py", "self.profiles.get(profile, {})", "{}", E2E + "test_config.py -k options_of_the_file"),
    Mutant("marks-before-patterns", PYTHON + "overrides.py", ", append=False)", ", append=True)", E2E + "test_config.py -k counts_more_than_marks"),
    Mutant("groups-of-any-number", PYTHON + "marks.py", '            demand.setdefault("leases", {})[f"group {name}"] = most\n', "            pass\n", E2E + "test_config.py -k group_has"),
    Mutant("nothing-is-slow", ENGINE + "dispatcher_verdicts.cc", "    if (record.duration > state.slow) {\n", "    if (false) {\n", E2E + "test_config.py -k counts_more_than_marks"),
    Mutant("ranks-alone-pass", ENGINE + "gang.cc", "  if (absent >= 0 && ", "  if (false && ", E2E + "test_native_mpi.py -k have_not_joined"),
    Mutant("one-manager-for-all", ENGINE + "dispatcher_gangs.cc", "tests_[gang.test].manager.empty() ? mpi_.manager : tests_[gang.test].manager", "mpi_.manager", E2E + "test_native_mpi.py -k each_library"),
    Mutant("programs-without-descriptor", PYTHON + "targets/running.py", "*notes.descriptors, *joined", "*notes.descriptors", E2E + "test_native_mpi.py -k each_rank"),
    Mutant("ended-ranks-have-failed", PYTHON + "child.py", '        done["interrupted"] = True\n', "        pass\n", E2E + "test_native_mpi.py -k failed_first"),
    Mutant("launchers-of-strangers", PYTHON + "mpi.py", "    if not (library and _launcher_library) or ", "    if True or ", E2E + "test_native_mpi.py -k own_launcher"),
    Mutant("launchers-that-judge", PYTHON + "targets/ctest.py", "None if of_all else launched_by", "launched_by", E2E + "test_native_mpi.py -k launchers_of_ctest"),
    Mutant("words-for-paths", PYTHON + "targets/notes.py", 'if line.startswith(f"{self._word}(")', "if False", E2E + "test_run_native.py -k called_by_a_word"),
    Mutant("switches-stay-on", PYTHON + "options.py", "    return bool(config.getini(name) if said is None else said)\n", "    return bool(config.getini(name) or said)\n", E2E + "test_config.py -k true_and_false"),
    Mutant("json-with-words", PYTHON + "cli/run.py", "    os.dup2(2, 1)\n", "", E2E + "test_front_door.py -k as_one_document"),
    Mutant("colours-for-all", PYTHON + "cli/paint.py", "        if not (self._on and text and names):\n", "        if not (text and names):\n", E2E + "test_front_door.py -k for_terminals"),
    Mutant("reasons-are-lost", PYTHON + "targets/running.py", "reporting.why_skipped(name, output()) or outcome.text", "outcome.text", E2E + "test_batches.py -k why_a_test"),
    Mutant("shards-of-all", PYTHON + "targets/sharding.py", "            mine = number % total == index\n", "            mine = True\n", E2E + "test_run_native.py -k shards_of_googletest"),
    Mutant("fixtures-stay-behind", PYTHON + "targets/plugin.py", "        items.extend(added)\n", "        pass\n", E2E + "test_run_native.py -k brings_its_fixtures"),
    Mutant("tags-of-nobody", PYTHON + "targets/catch2.py", "            labels.setdefault(name, []).append(tag)\n", "            pass\n", E2E + "test_list.py -k is_known"),
    Mutant("order-on-other-nodes", ENGINE + "dispatcher_farm.cc", "chunks.join(chunk_of(first), chunk_of(second));", "static_cast<void>(first), static_cast<void>(second);", E2E + "test_slurm.py -k waits_for_a_test"),
    Mutant("later-tests-do-not-wait", ENGINE + "dispatcher_farm.cc", "    if (!precedence_.waits(test)) queue_.put_back(test);\n", "    queue_.put_back(test);\n", E2E + "test_slurm.py -k waits_for_a_test"),
    Mutant("folder-of-multiprocessing-is-a-leak", PYTHON + "leaks.py", "*(_folder_of_multiprocessing() if self.goes_on else ())", "*()", E2E + "test_leaks.py -k fork_server"),
    Mutant("ids-leave-fixtures", PYTHON + "targets/plugin.py", "*(item for suite in suites for item in suite.collected)", "*()", E2E + "test_run_native.py -k brings_its_fixtures"),
    Mutant("errors-without-a-document", PYTHON + "cli/run.py", '"ledger": None, "error": str(mistake)}', '"ledger": None}', E2E + "test_front_door.py -k never_began"),
    Mutant("dead-orphans-stay", "shim/forkloop.c", "count > 0 ? LOOK : -1", "count > 0 && LOOK > 0 ? -1 : -1", E2E + "test_leaks.py -k daemon_that_ends"),
    Mutant("groups-without-devices", PYTHON + "targets/running.py", '    found.update(resources_for(test, found.get("CUDA_VISIBLE_DEVICES", "")))\n', "", E2E + "test_run_native.py -k resource_groups"),
    Mutant("quick-passes-for-everybody", PYTHON + "targets/item.py", "    return bool(junit) or ", "    return False and ", E2E + "test_run_native.py -k for_who_asks"),
    Mutant("quick-passes-ask-nothing", PYTHON + "targets/item.py", '        if isinstance(outcome, Outcome) and outcome.verdict == "passed":\n            self.teardown()', "        if True:\n            self.teardown()", E2E + "test_run_native.py -k each_way"),
)  # fmt: skip


def prepare() -> None:
    shutil.rmtree(COPY / "python", ignore_errors=True)
    COPY.mkdir(parents=True, exist_ok=True)
    files = subprocess.check_output(["git", "ls-files"], cwd=HERE, text=True).splitlines()
    for name in files:
        target = COPY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (HERE / name).exists() and (not target.exists() or target.read_bytes() != (HERE / name).read_bytes()):
            shutil.copy(HERE / name, target)
    place = COPY / "python" / "holdfast" / "bin"
    place.mkdir(exist_ok=True)
    for name in ("holdfast", "libcrashnote.so", "libforkloop.so", "libtrail.so", "libfaultshim.so", "libfaultcontrol.so", "simgpu"):
        (place / name).symlink_to(COPY.parent / "engine" / name)
    information = COPY / "python" / "holdfast-0.dist-info"
    information.mkdir(exist_ok=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: holdfast\nVersion: 0\n")
    (information / "entry_points.txt").write_text("[pytest11]\nholdfast = holdfast.plugin\n")


def build() -> None:
    out = COPY.parent / "engine"
    subprocess.run(["cmake", "-S", COPY, "-B", out, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", out, "--quiet"], check=True)


def run(tests: str) -> bool:
    """True if the tests pass."""
    env = {**os.environ, "PYTHONPATH": str(COPY / "python")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    return subprocess.run(command, cwd=COPY, env=env, stdout=subprocess.DEVNULL, check=False).returncode == 0


def main() -> int:
    chosen = [m for m in MUTANTS if not sys.argv[1:] or m.name in sys.argv[1:]]
    prepare()
    build()
    if not run(E2E + "test_worker_identity.py"):
        print("the tests do not pass without a mutant either: this proves nothing")
        return 1
    unnoticed = 0
    for mutant in chosen:
        path = COPY / mutant.file
        text = path.read_text()
        if text.count(mutant.before) != 1:
            print(f"{mutant.name}: its place in {mutant.file} is not there any more", flush=True)
            unnoticed += 1
            continue
        try:
            path.write_text(text.replace(mutant.before, mutant.after))
            try:
                if mutant.file.endswith((".cc", ".c", ".h")):
                    build()
            except subprocess.CalledProcessError:
                print(f"{mutant.name}: cannot be built, and proves nothing", flush=True)
                unnoticed += 1
                continue
            passed = run(mutant.tests)
        finally:
            path.write_text(text)
            if mutant.file.endswith((".cc", ".c", ".h")):
                build()
        unnoticed += passed
        print(f"{mutant.name}: {'NOT NOTICED by ' + mutant.tests if passed else 'noticed'}", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
