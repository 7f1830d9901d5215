"""Queries: answered between batches from proven state, without event, row or dedup.

A lost answer is asked for again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from ..core import levels
from ..core.apply.fold import Settings
from ..core.commands import Command, QueryWorkflow
from ..core.decide.decision import CLOSED, View, current_run, no_such_run
from ..core.rows import (
    APPROVALS,
    HISTORY,
    INDEX,
    META,
    POSITION_KEY,
    ROUTING_KEY,
    RUNS,
    SCHEDULES,
    STEPS,
    TIMERS,
    UPDATES,
    ChildRow,
    Key,
    RunRow,
    StepRow,
    UpdateRow,
    history_key,
    run_key,
    schedule_key,
    step_key,
    timer_due_key,
    update_key,
)
from ..core.tasks import Reply
from ..core.values import Payload, ReplyTo
from ..errors import OrchestratorError
from ..sdk.identity import release
from . import approval_views, entities, handed_over, limits, rejections, relatives, views, waits
from .copies import Copies
from .deadlines import Deadlines
from .options import EVENT_BYTES
from .pages import Page, as_json
from .search import conditions, fits
from .topic_views import topic_view
from .turns import Ask, RunKey, Turns

log = logging.getLogger(__name__)

MAX_WAIT_MS = 20_000


class Waiter(NamedTuple):
    """A caller that waits for a run's result, or for that of an update. Lives in memory: a dead one leaves nothing."""

    command: Command
    run_id: str
    update: str = ""


class Queries:
    """One partition's questions."""

    def __init__(self, view: View, turns: Turns, send: Callable[[ReplyTo, Reply], None], settings: Settings) -> None:
        self._view = view
        self._horizon_ms = settings.dedup_horizon_ms
        self._turns = turns
        self._send = send
        self._waiting: dict[RunKey, list[Waiter]] = {}
        self.patience: Deadlines[tuple[RunKey, Waiter]] = Deadlines()
        self.copies = Copies(view, turns, self._code)

    def answer(self, command: Command, monotonic: float) -> None:
        """Answer now, or keep the caller waiting for a result."""
        if command.reply_to is None:
            return
        try:
            self._answer(command, monotonic)
        except OrchestratorError:
            raise
        except Exception as error:
            # Nothing was changed: a question that cannot be answered is its asker's affair alone.
            log.warning("%s: a question cannot be answered", command.workflow_id, exc_info=True)
            self._refuse(command, "query_failed", f"{type(error).__name__}: {error}")

    def _answer(self, command: Command, monotonic: float) -> None:
        body = command.body
        assert isinstance(body, QueryWorkflow)
        if body.kind == "list":
            try:
                self._reply_payload(command, "", self._list(_arguments(body)))
            except ValueError as error:
                self._refuse(command, "bad_request", f"a list of runs: {error}")
            return
        if body.kind in ("schedule", "schedules"):
            self._schedules(command, body)
            return
        if body.kind == "approvals":
            self._reply(command, "", approval_views.listed(self._view, _arguments(body)))
            return
        if body.kind == "events":
            self._reply(command, "", topic_view(self._view, command.workflow_id))
            return
        if body.kind == "rejections":
            about = (command.workflow_id, body.run_id, _arguments(body))
            self._reply(command, body.run_id, rejections.listed(self._view, *about, self._horizon_ms))
            return
        if body.kind == "limits":
            self._reply(command, "", limits.listed(self._view, _arguments(body)))
            return
        if body.kind == "limit":
            found = limits.described(self._view, command.workflow_id, _arguments(body))
            if found is None:
                self._refuse(command, "not_found", limits.absent(_arguments(body)))
            else:
                self._reply(command, "", found)
            return
        if body.kind == "entity":
            self._entity(command, body)
            return
        if body.kind == "routing":
            row = self._view.get(META, ROUTING_KEY)
            self._reply(command, "", {"epochs": list(row.epochs)})
            return
        if body.kind == "level":
            level = levels.in_force(self._view.get(META, POSITION_KEY))
            self._reply(command, "", {"level": level, "reads": levels.LEVEL, "engine": release()})
            return
        if body.kind == handed_over.KIND:
            self._reply(command, body.run_id, handed_over.wanted(self._view, command.workflow_id, body))
            return
        run_id, run = current_run(self._view, command.workflow_id, body.run_id)
        if run is None:
            self._refuse(command, "not_found", no_such_run(command.workflow_id, body.run_id))
        elif body.kind == "describe":
            brief = bool(_arguments(body).get("brief"))
            self._reply(command, run_id, self._describe((command.workflow_id, run_id), run, brief))
        elif body.kind == "history":
            self._reply_payload(command, run_id, self._history((command.workflow_id, run_id), run, _arguments(body)))
        elif body.kind in ("result", "update"):
            waiter = Waiter(command, run_id, body.name if body.kind == "update" else "")
            self._await(waiter, run, body.wait_ms, monotonic)
        elif body.kind == "approval":
            self._approval(command, run_id, _arguments(body))
        elif body.kind == "code":
            key = (command.workflow_id, run_id)
            if not self.copies.takes(command, key, run):
                self._code(command, key, run, partial(self._turns.ask, self._view, key, run))
        else:
            self._refuse(command, "bad_request", f"unknown query {body.kind!r}")

    def _approval(self, command: Command, run_id: str, arguments: dict[str, Any]) -> None:
        key = step_key(command.workflow_id, run_id, str(arguments.get("approval")))
        row = self._view.get(APPROVALS, key)
        if row is None:
            self._refuse(
                command, "not_waiting", f"{'/'.join(map(str, key))} waits for no answer: it has one, or was withdrawn"
            )
        else:
            self._reply(command, run_id, approval_views.approval_view(key, row))

    # -- results: a long poll ----------------------------------------------------------------------------------------

    def _await(self, waiter: Waiter, run: RunRow, wait_ms: int, monotonic: float) -> None:
        if wait_ms <= 0 or self._is_over(waiter, run):
            self._tell(waiter, run)
            return
        key = (waiter.command.workflow_id, waiter.run_id)
        self._waiting.setdefault(key, []).append(waiter)
        self.patience.add(monotonic + min(wait_ms, MAX_WAIT_MS) / 1000, (key, waiter))

    def _is_over(self, waiter: Waiter, run: RunRow | None) -> bool:
        if run is None or run.status in CLOSED or run.status == "parked":
            return True
        row = self._update(waiter) if waiter.update else None
        return bool(waiter.update) and (row is None or row.state != "accepted")

    def _update(self, waiter: Waiter) -> UpdateRow | None:
        row: UpdateRow | None = self._view.get(
            UPDATES, update_key(waiter.command.workflow_id, waiter.run_id, waiter.update)
        )
        return row

    def changed(self, keys: Iterable[RunKey]) -> None:
        """Proven changes of runs: tell whoever waits for one that is closed or parked now, or for its update."""
        for key in keys:
            if key not in self._waiting:
                continue
            run = self._view.get(RUNS, run_key(*key))
            waiting = self._waiting.pop(key)
            still = [waiter for waiter in waiting if not self._is_over(waiter, run)]
            if still:
                self._waiting[key] = still
            for waiter in waiting:
                if waiter not in still:
                    self._tell(waiter, run)

    @property
    def awaited(self) -> bool:
        """Whether someone waits for a result."""
        return any(self._waiting.values())

    def expire(self, monotonic: float) -> None:
        """Callers whose patience is over are told to ask again."""
        for key, waiter in self.patience.due(monotonic):
            waiters = self._waiting.get(key, [])
            if waiter in waiters:
                waiters.remove(waiter)
                run = self._view.get(RUNS, run_key(*key))
                self._tell(waiter, run)

    def dismiss(self) -> None:
        """The partition goes to another owner: whoever waits here asks there."""
        for key, waiters in self._waiting.items():
            run = self._view.get(RUNS, run_key(*key))
            for waiter in waiters:
                self._tell(waiter, run)
        self._waiting.clear()

    def _tell(self, waiter: Waiter, run: RunRow | None) -> None:
        if waiter.update:
            self._send_update(waiter, run)
        else:
            self._send_result(waiter.command, waiter.run_id, run)

    def _send_update(self, waiter: Waiter, run: RunRow | None) -> None:
        command, row = waiter.command, self._update(waiter)
        if run is None or row is None:
            which = f"{command.workflow_id}/{waiter.run_id}"
            self._refuse(command, "not_found", f"{which} took no update {waiter.update}, or its retention is over")
            return
        said = Reply(command.id, command.workflow_id, waiter.run_id, "answered", row.state, run.status)
        if row.state == "accepted":
            said = said._replace(outcome="not_ready", code=run.status, message=run.parked_message)
        elif row.state == "closed":
            said = said._replace(message=run.next_run_id or run.status)
        assert command.reply_to is not None
        self._send(command.reply_to, said._replace(result=row.result, failure=row.failure))

    def _send_result(self, command: Command, run_id: str, run: RunRow | None) -> None:
        if run is None:
            self._refuse(command, "not_found", f"{command.workflow_id}/{run_id} left the state: its retention is over")
            return
        outcome = "answered" if run.status in CLOSED else "not_ready"
        message = run.parked_message if run.status == "parked" else run.next_run_id
        assert command.reply_to is not None
        self._send(
            command.reply_to,
            Reply(command.id, command.workflow_id, run_id, outcome, run.status, message, run.result, run.failure),
        )

    # -- the others --------------------------------------------------------------------------------------------------

    def _describe(self, key: RunKey, run: RunRow, brief: bool) -> Any:
        """`brief`: without what takes a look at the history, for those who ask again and again."""
        steps, children = [], []
        for at, row in self._view.scan(STEPS, run_key(*key)):
            if isinstance(row, StepRow):
                steps.append(views.step_view(str(at[2]), row))
            elif isinstance(row, ChildRow):
                children.append({"step": str(at[2]), "workflow_id": row.child_workflow_id, "run_id": row.child_run_id})
        ends = self._view.get(TIMERS, timer_due_key(*key, "run|"))
        told = {} if brief else relatives.told(self._view, self._turns, key, run)
        if not brief:
            told["rejections"] = rejections.newest(self._view, key, self._horizon_ms)
            told["started_by"] = views.starter_view(self._view.get(HISTORY, history_key(*key, 1)))
        return {
            **views.run_view(*key, run),
            "run_ends_at_ms": ends.due_at_ms if ends is not None else None,
            **told,
            "pending_steps": steps[:100],
            "pending_children": children[:100],
            "pending_timers": run.pending_timers,
            "pending_updates": run.pending_updates,
            "maps": waits.maps(self._view, self._turns, key, run),
            "why": waits.why(self._view, self._turns, key, run),
        }

    def _history(self, key: RunKey, run: RunRow, arguments: dict[str, Any]) -> Payload:
        start = int(arguments.get("from_seq", 1))
        page = Page(min(int(arguments.get("limit", 500)), 2_000))
        for row_key, record in self._view.scan(HISTORY, key, after=history_key(*key, max(start - 1, 0))):
            if page.full or not page.takes(views.event_view(record.event)):
                return page.payload("events", next_seq=int(row_key[2]), status=run.status)
        return page.payload("events", next_seq=None, status=run.status)

    def _list(self, arguments: dict[str, Any]) -> Payload:
        status = str(arguments.get("status") or "")
        wanted = str(arguments.get("workflow_type") or "")
        asked = conditions(arguments.get("where") or ())
        newest = bool(arguments.get("newest"))
        page = Page(min(int(arguments.get("limit", 100)), 1_000))
        last: Key = ()
        for key, row in self._view.scan(INDEX, (status,) if status else (), after=_after(arguments)):
            if wanted and row.workflow_type != wanted:
                continue
            if page.full:
                return page.payload("runs", next=list(last), newest=newest)
            if not newest or current_run(self._view, str(key[2]))[0] == key[3]:
                run = self._view.get(RUNS, run_key(str(key[2]), str(key[3])))
                is_asked_for = run is not None and fits(run, asked)
                if is_asked_for and not page.takes(views.run_view(str(key[2]), str(key[3]), run)):
                    return page.payload("runs", next=list(last), newest=newest)
            last = key
        return page.payload("runs", next=None, newest=newest)

    def _schedules(self, command: Command, body: QueryWorkflow) -> None:
        if body.kind == "schedules":
            self._reply_payload(command, "", self._list_schedules(_arguments(body)))
            return
        row = self._view.get(SCHEDULES, schedule_key(command.workflow_id))
        if row is None:
            self._refuse(command, "not_found", f"{command.workflow_id}: no such schedule")
        else:
            self._reply(command, "", views.schedule_view(command.workflow_id, row))

    def _list_schedules(self, arguments: dict[str, Any]) -> Payload:
        page = Page()
        last: Key = ()
        for key, row in self._view.scan(SCHEDULES, (), after=_after(arguments)):
            if not page.takes(views.schedule_view(str(key[0]), row)):
                return page.payload("schedules", next=list(last))
            last = key
        return page.payload("schedules", next=None)

    def _code(self, command: Command, key: RunKey, run: RunRow | None, ask: Ask) -> None:
        body = command.body
        assert isinstance(body, QueryWorkflow)
        if run is None:
            self._refuse(command, "not_found", no_such_run(*key))
            return
        try:
            answer = ask(lambda live: live.talk.query(body.name, body.arguments))
        except Exception as error:
            # Whatever a query handler raises is the asker's to see; the run is untouched.
            self._refuse(command, "query_failed", f"{type(error).__name__}: {error}")
            return
        if answer is None:
            why = f"{run.workflow_type} version {run.version} is not in this engine, or diverges from the run's history"
            if run.status == "parked":
                why = f"{command.workflow_id} is parked: {run.parked_message}"
            self._refuse(command, "no_code", why)
            return
        self._reply_payload(command, key[1], answer)

    def _entity(self, command: Command, body: QueryWorkflow) -> None:
        try:
            answer = entities.read(self._view, self._turns.registry, self._turns.blobs, command.workflow_id, body)
        except Exception as error:
            self._refuse(command, "query_failed", f"{type(error).__name__}: {error}")
        else:
            self._reply_payload(command, "", answer)

    def _reply(self, command: Command, run_id: str, value: Any) -> None:
        self._reply_payload(command, run_id, Payload(data=as_json(value)))

    def _reply_payload(self, command: Command, run_id: str, payload: Payload) -> None:
        assert command.reply_to is not None
        if len(payload.data) > EVENT_BYTES:
            # Too large for its record, it would be lost, and be asked for again and again.
            what = " ".join(filter(None, (getattr(command.body, "kind", ""), getattr(command.body, "name", ""))))
            said = f"the answer to {what} has {len(payload.data):,} bytes, a reply takes {EVENT_BYTES:,}"
            self._refuse(command, "limit", f"{command.workflow_id}: {said}")
            return
        self._send(command.reply_to, Reply(command.id, command.workflow_id, run_id, "answered", result=payload))

    def _refuse(self, command: Command, code: str, message: str) -> None:
        assert command.reply_to is not None
        self._send(command.reply_to, Reply(command.id, command.workflow_id, "", "rejected", code, message))


def _after(arguments: dict[str, Any]) -> Key | None:
    return tuple(arguments["after"]) if arguments.get("after") else None


def _arguments(body: QueryWorkflow) -> dict[str, Any]:
    try:
        found = json.loads(body.arguments.data or b"null")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
