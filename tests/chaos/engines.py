"""Faults of engine processes on a real broker: SIGKILL at every kill point, zombies, twins, kills under limits."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import uuid

from confluent_kafka import KafkaException, Producer

from orchestrator.log.config import LogConfig
from tests.chaos.load import Mixed
from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults.campaign import PARTITIONS, Kill, Site
from tests.faults.flow import play as play_flow
from tests.faults.test_kills import HITS, STATIC
from tests.faults.test_zombies import Frozen
from tests.oracle.raw import READ_COMMITTED

OF_GROUP = ("K7", "K8", "K9", "K11", "K12", "K17", "K18", "K22", "")
FEW_HITS = {**HITS, "K17": 1}
PROTOCOLS = ("consumer", "classic")


def place(seat: Seat, name: str, membership: str = "static", protocol: str = "consumer") -> Site:
    """A new application on the seat's broker."""
    app = f"{name}-{uuid.UUID(int=seat.rng.getrandbits(128)).hex[:4]}-{uuid.uuid4().hex[:4]}"
    return Site(seat.bootstrap, app, seat.directory / app, membership, protocol)


def planned(points: list[str], rng: random.Random) -> list[Kill]:
    """One death at each point, in any order; those with an empty disk last, when there is much to fold."""
    kills = []
    for point in points:
        hit = rng.randint(1, FEW_HITS.get(point, 40)) if point else rng.randint(800, 2500)
        isolation = "thread" if point in ("K4", "K5") or rng.random() < 0.9 else "process"
        kills.append(Kill(point, hit, isolation, point == "K16"))
    rng.shuffle(kills)
    return sorted(kills, key=lambda kill: kill.empty)


JOINED = 1_000
"""Numbers of engines that join a group for a while begin here."""


def _owned(campaign: Mixed) -> int:
    """How many partitions the newest of the ordinary engines has claimed."""
    names = [name for name in campaign.told() if int(name[7:-4]) < JOINED]
    newest = max(names, key=lambda name: int(name[7:-4]))
    return campaign.told()[newest].count(": claim ")


class Counted(Mixed):
    """Kills are counted as they fall: also those before something fails."""

    tally: Tally
    _joined = 0

    def _until_fired(self, engine: subprocess.Popen[bytes], kill: Kill) -> None:
        """A member has to give partitions away when another one joins: that one is killed too, behind it.

        The group may ask it to before that, when one that was killed before is missed at last.
        """
        ended = engine.poll
        if kill.point == "K17":
            self.until(lambda: ended() is not None or _owned(self) == PARTITIONS, "a member owns every partition")
        if kill.point != "K17" or ended() is not None:
            super()._until_fired(engine, kill)
            return
        self._joined += 1
        other = self._engine(JOINED + self._joined, "", "thread", f"state-of-the-joined-{self._joined}")
        try:
            super()._until_fired(engine, kill)
        finally:
            other.kill()
            other.wait(30)

    def _life(self, number: int, kill: Kill) -> None:
        super()._life(number, kill)
        self.tally.kills += 1
        self.tally.faults[kill.point or "random moment"] += 1


def kills(seat: Seat, tally: Tally) -> None:
    """SIGKILL at every kill point once, by static assignment; every fourth turn the points of a group's member."""
    rng = seat.rng
    in_group = rng.random() < 0.25
    points = list(OF_GROUP) * 2 if in_group else list(STATIC)
    rng.shuffle(points)
    protocol = rng.choice(PROTOCOLS)
    campaign = Counted(place(seat, "kills", "group" if in_group else "static", protocol), rng)
    campaign.tally, campaign.runs_a_life = tally, seat.of(Mixed.runs_a_life)
    tally.judged(campaign.run(planned(points[: seat.of(len(points))], rng)))


def zombies(seat: Seat, tally: Tally) -> None:
    """SIGSTOP with a transaction open, past session and transaction time-outs; a successor; SIGCONT."""
    rng = seat.rng
    membership, protocol = rng.choice([("group", "consumer"), ("group", "classic"), ("static", "consumer")])
    played = FrozenMixed(place(seat, "zombie", membership, protocol), rng)
    found = played.play()
    tally.faults["SIGSTOP and SIGCONT"] += 1
    tally.judged(found)
    if not found.verdict.totals["aborted_records"]:
        tally.anomalies.append("the zombie held no transaction open: nothing was shown")


class FrozenMixed(Mixed, Frozen):
    """The zombie's story under mixed load."""


OTHER = "state-of-the-other"


def twins(seat: Seat, tally: Tally) -> None:
    """Two engines that are told to own the same partitions: each is left to one. Then a bare producer takes the ids."""
    campaign = Mixed(place(seat, "twins"), seat.rng)
    campaign.feed(seat.of(40))
    with campaign.engines() as engines:
        engines.append(campaign._engine(0, "", "thread"))
        campaign.until_answered("the first engine works", engines[0])
        engines.append(campaign._engine(1, "", "thread", OTHER))
        campaign.until(lambda: len(_left(campaign)) == PARTITIONS, "each partition is left by one of them")
        owners = {number: 1 - loser for number, loser in _left(campaign).items()}
        tally.faults["two engines with one id"] += 1
        for number, owner in owners.items():
            campaign.until_answered("somebody works", engines[owner])
            if _steal(campaign, number):
                tally.faults["id taken by a bare producer"] += 1
            else:
                tally.anomalies.append(f"a fenced producer committed into partition {number} (I9)")
        campaign.until_answered("the partitions were claimed again", engines[1])
        campaign._until_ended(engines[1], 1)
        for engine in engines:
            campaign.drain(engine)
    for number in (number for number, owner in owners.items() if owner == 1):
        # The state that is judged is that of the engine that stayed.
        kept, others = (campaign.site.directory / name / campaign.site.app / str(number) for name in ("state", OTHER))
        kept.rename(kept.with_name(f"{number}-of-the-fenced"))
        others.rename(kept)
    tally.judged(campaign.judge())


def _left(campaign: Mixed) -> dict[int, int]:
    """Partitions that an engine has stopped working on, and which one."""
    found = {}
    for engine, name in enumerate(("engine-0.log", "engine-1.log")):
        for line in campaign.told().get(name, "").splitlines():
            if "this engine stops working on it" in line and (match := re.search(r": partition (\d+): ", line)):
                found[int(match[1])] = engine
    return found


def _steal(campaign: Mixed, number: int) -> bool:
    """Fence the engine's lane by its own id, leave a record there, and try to commit once it has it back.

    Whether that commit was refused.
    """
    config = LogConfig(campaign.site.app, campaign.site.bootstrap)
    thief = Producer({**config.client(), "transactional.id": config.lane_names(number)[0]})
    fenced = _fenced(campaign, number)
    thief.init_transactions(30)
    thief.begin_transaction()
    # A record of the log, once more: were it ever seen, everybody would notice.
    again = campaign._read("events", READ_COMMITTED)[number][-1]
    thief.produce(config.topic("events"), again.value, again.key, number)
    with contextlib.suppress(KafkaException):
        thief.flush(10)
    # A claim that was under way already would not have fenced it.
    campaign.until(
        lambda: _fenced(campaign, number) > fenced and _claimed_since(campaign, number),
        f"partition {number} is claimed again",
    )
    try:
        thief.commit_transaction(20)
    except KafkaException:
        return True
    return False


def _fenced(campaign: Mixed, number: int) -> int:
    found = re.compile(rf": partition {number}: .*; claiming again")
    return sum(len(found.findall(text)) for text in campaign.told().values())


def _claimed_since(campaign: Mixed, number: int) -> bool:
    """Whether every engine that was fenced has claimed since, or stopped working on it."""
    words = re.compile(rf": partition {number}: (?:claim \d|.*; claiming again|.*; this engine stops)")
    last = [found[-1] for text in campaign.told().values() if (found := words.findall(text))]
    return bool(last) and not any("claiming again" in one for one in last)


def flow(seat: Seat, tally: Tally) -> None:
    """Three engines under limits, killed at random: no limit is exceeded, no slot leaks."""
    found = play_flow(seat.bootstrap, seat.directory, seat.rng, seat.of(9))
    tally.kills += found.kills
    tally.runs += found.runs
    tally.steps += found.steps
    tally.faults["random moment under limits"] += found.kills


PLUGS = (
    Plug("kills", kills, (*(point or "random moment" for point in STATIC), "K17", "K18"), 12.0, 180.0, True),
    Plug("zombies", zombies, ("SIGSTOP and SIGCONT",), 1.5, 70.0, True),
    Plug("twins", twins, ("two engines with one id", "id taken by a bare producer"), 1.0, 60.0, True),
    Plug("flow", flow, ("random moment under limits",), 1.5, 150.0, True),
)
