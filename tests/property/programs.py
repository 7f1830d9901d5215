"""Random programs as data, what they must come to, and smaller ones that may fail the same way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

Node = list[Any]
"""`[kind, ...]`; see `Maker`. Plain JSON: a program is the argument of the run that carries it out."""

WIDTH = 3
DEPTH = 14
MANY = ("seq", "gather", "first", "as_completed", "group", "all")
ONE = {"catch": 1, "wait_for": 2, "loop": 2}


class Plan(NamedTuple):
    """How a generated program is bounded."""

    size: int
    depth: int = DEPTH
    alone: bool = False
    """Without signals that are waited for without a time-out: a child has no id that a test could send to."""
    quiet: bool = False
    """Without signals at all: those of a run are meant for its main program."""


class Maker:
    """Makes programs of a seed. Every step has a number of its own."""

    def __init__(self, rng: random.Random, patient: bool = False) -> None:
        """`patient`: half of the steps are cancelled in mode `wait`."""
        self._rng = rng
        self._modes = ("try",) * 6 + ("abandon",) + ("wait",) * 7 * patient
        self._made = 0
        self._left = 0

    def program(self, plan: Plan) -> Node:
        """One program."""
        self._left = plan.size
        return self._node(plan, plan.depth)

    def _node(self, plan: Plan, depth: int) -> Node:
        rng = self._rng
        if depth <= 1 or self._left <= 1 or (depth < plan.depth and rng.random() < 0.25):
            return self._leaf(plan)
        kind = rng.choice((*MANY, *MANY, *ONE, "finally", "finally", "child"))
        if kind in MANY:
            return [kind, [self._node(plan, depth - 1) for _ in range(rng.randint(2, WIDTH))]]
        if kind == "finally":
            # In a cleanup, a step: what cancelled siblings ask for at once has no one order in a set of tasks.
            return [kind, self._node(plan, depth - 1), self._step()]
        if kind == "child":
            return [kind, self._number(), self._node(plan._replace(alone=True), depth - 1)]
        if kind == "wait_for":
            return [kind, rng.choice((50, 1_500, 60_000)), self._node(plan, depth - 1)]
        if kind == "loop":
            return [kind, rng.randint(1, 3), self._node(plan, depth - 1)]
        return [kind, self._node(plan, depth - 1)]

    def _number(self) -> int:
        self._made += 1
        return self._made

    def _leaf(self, plan: Plan) -> Node:
        rng = self._rng
        kind = rng.choice(("step",) * 6 + ("sleep", "sleep" if plan.quiet else "signal"))
        if kind == "step":
            return self._step()
        self._left -= 1
        if kind == "sleep":
            return [kind, rng.choice((0, 10, 1_000, 5_000))]
        waits = rng.choice((100, 2_000) if plan.alone else (0, 100, 2_000))
        return [kind, rng.choice("ab"), waits]

    def _step(self) -> Node:
        rng = self._rng
        self._left -= 1
        fails = rng.choice((0, 0, 0, 0, 1, 2))
        ends = rng.choice(("ok",) * 8 + ("broken", "exhausted"))
        return ["step", self._number(), fails, ends, rng.choice(self._modes)]


def children_of(node: Node) -> list[Node]:
    """The nodes right below."""
    if node[0] in MANY:
        found: list[Node] = node[1]
        return found
    if node[0] in ONE:
        return [node[ONE[node[0]]]]
    return {"finally": node[1:3], "child": node[2:3], "again": node[1:3]}.get(node[0], [])


def walk(node: Node, times: int = 1) -> Iterator[tuple[Node, int]]:
    """Every node with how often it can be carried out."""
    yield node, times
    for below in children_of(node):
        yield from walk(below, times * node[1] if node[0] == "loop" else times)


class Racy(Exception):
    """What the program comes to depends on what is faster."""


class Failing(Exception):
    """The program fails, whatever is faster; `steps` gave results before."""

    def __init__(self, steps: Counter[str]) -> None:
        self.steps = steps


def denote(node: Node, at: str = "") -> tuple[Any, Counter[str]]:
    """The value of a program and the steps that give a result, by label; nothing of asyncio or the engine is asked.

    Raises Failing, and Racy when there is no one answer.
    """
    kind = node[0]
    if kind == "step":
        if node[3] != "ok":
            raise Failing(Counter())
        return f"{node[1]}{at}", Counter([f"{node[1]}{at}"])
    if kind == "sleep":
        return "slept", Counter()
    if kind == "seq":
        return _in_turn(node[1], at)
    if kind == "loop":
        return _in_turn([node[2]] * node[1], at, numbered=True)
    if kind in ("gather", "group", "all"):
        return _together(node, at)
    if kind == "catch":
        try:
            value, steps = denote(node[1], at)
        except Failing as error:
            return "caught", error.steps
        return value, steps
    if kind == "finally":
        return _cleaned_up(node, at)
    if kind == "child":
        return denote(node[2], f"{at}/{node[1]}")
    raise Racy


def _in_turn(nodes: list[Node], at: str, numbered: bool = False) -> tuple[Any, Counter[str]]:
    values, steps = [], Counter[str]()
    for number, below in enumerate(nodes):
        try:
            value, more = denote(below, f"{at}#{number}" if numbered else at)
        except Failing as error:
            raise Failing(steps + error.steps) from None
        values.append(value)
        steps += more
    return values, steps


def _together(node: Node, at: str) -> tuple[Any, Counter[str]]:
    values, steps = [], Counter[str]()
    for below in node[1]:
        try:
            value, more = denote(below, at)
        except Failing as error:
            if node[0] != "gather":
                # The others are cancelled, and how far they came by then is chance.
                raise Racy from None
            value, more = "failed", error.steps
        values.append(value)
        steps += more
    return values, steps


def _cleaned_up(node: Node, at: str) -> tuple[Any, Counter[str]]:
    try:
        value, steps = denote(node[1], at)
    except Failing as error:
        try:
            _, more = denote(node[2], f"{at}!")
        except Failing as second:
            raise Failing(error.steps + second.steps) from None
        raise Failing(error.steps + more) from None
    try:
        _, more = denote(node[2], f"{at}!")
    except Failing as error:
        raise Failing(steps + error.steps) from None
    return value, steps + more


def smaller(node: Node) -> Iterator[Node]:
    """Programs with one thing less, the smallest first."""
    below = children_of(node)
    yield from below
    if node[0] in MANY:
        for number, one in enumerate(below):
            if len(below) > 1:
                yield [node[0], below[:number] + below[number + 1 :]]
            for less in smaller(one):
                yield [node[0], [*below[:number], less, *below[number + 1 :]]]
        return
    for number, part in enumerate(node):
        if isinstance(part, list):
            for less in smaller(part):
                yield [*node[:number], less, *node[number + 1 :]]
