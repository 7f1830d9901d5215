"""Owning a partition.

Restore, initialise every lane, claim, and read the log until one's own claim comes back (design.md §4).
"""

from __future__ import annotations

import logging
import os
import secrets
import socket

from ..codec.records import CLAIM_KEY as CLAIM_RECORD_KEY
from ..core import machine
from ..core.events import Event, PartitionClaimed
from ..core.rows import ClaimRow
from ..errors import LogReplaced
from ..failpoints import failpoint
from ..log.ports import TopicIds
from ..sdk.identity import release
from .growth import count_to_claim
from .restored import Restored
from .sabotage import sabotaged
from .soundness import (
    check_generation,
    check_input,
    check_not_claimed,
    check_whole,
    cut_off,
)

log = logging.getLogger(__name__)


class Ground(Restored):
    """What an owner stands on, and the claim by which it stands there."""

    # -- taking over -------------------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Restore and claim. On return the state is the log's, up to this owner's claim.

        Raises LogReplaced, LogGap, HangingTransaction, Fenced, ClaimLost.
        """
        ids = self.restore()
        if self.repair is None:
            check_whole(self.log.app, self.number, self.assembler.gap, self.claim_row())
        if self.adopts:
            # The footer at the state's position is the same: so is the log.
            self._note_directory(ids)
        else:
            check_input(self.log.app, self.position(), ids)
        claimed_for = self.found_with or count_to_claim(self.overlay, self.log, self.codec, ids)
        self.recorded = claimed_for
        unclean = False
        while True:
            before = self.claim_row()
            if before is not None:
                # A claim of this very process after a failed commit is no death: what was in doubt before it still is.
                own = before.instance == self.options.instance
                check_generation(self.where, before, self.options.generation)
                if not own and not self.options.claims_back:
                    check_not_claimed(self.where, before, self.claim_no)
                unclean = unclean or (self.unclean if own else not before.released)
            failpoint("K0")
            if sabotaged("one_lane_reinitialised") and self.claim_no:
                self.lanes.init_last()
                return
            self.lanes.init([name for name in (before.lanes if before else ()) if name not in self.lanes.names])
            claim = self._claim(ids, before, claimed_for)
            if self._read_back(claim):
                problem = "" if self.repair is not None else cut_off(self.where, self.noted, self.position())
                if problem:
                    raise LogReplaced(f"{problem} See `orchestrator partition repair {self.number}`.")
                self.unclean = unclean
                self._hear_all()
                return
            log.info("%s: another claim came first, claiming again", self.where)

    def _claim(self, ids: TopicIds, before: ClaimRow | None, partitions: int) -> PartitionClaimed:
        # Numbers are never reused: what was cut off may be witnessed elsewhere too.
        above = self.repair.above if self.repair is not None else 0
        self.claim_no = max(self.assembler.claim_no, before.claim_no if before else 0, above) + 1
        claim = PartitionClaimed(
            nonce=secrets.token_hex(16),
            instance=self.options.instance,
            host=socket.gethostname(),
            pid=os.getpid(),
            engine=release(),
            lanes=self.lanes.names,
            mode="exclusive",
            level=self.level(),
            commands_topic_id=ids.commands,
            events_topic_id=ids.events,
            partitions=partitions,
            generation=self.options.generation,
            accepts_from=self.assembler.shown + 1 if self.repair is not None else -1,
        )
        record = self.codec.seal(Event("", "", 0, claim, claim_no=self.claim_no))
        assert record.key == CLAIM_RECORD_KEY
        self.skew.claim_is_sent()
        self.lanes.begin([(record.key, record.value)])
        self.lanes.commit()
        failpoint("K22")
        return claim

    def _read_back(self, claim: PartitionClaimed) -> bool:
        """Fold the log until our own claim comes back. False: another's claim makes ours invalid, claim again.

        Raises HangingTransaction, KafkaUnavailable when nothing more comes for `hang_s`, however long it takes in all.
        """
        if sabotaged("no_claim_read_back"):
            unread = self.codec.seal(Event("", "", 0, claim, claim_no=self.claim_no))
            machine.apply(self.overlay, unread, self.settings)
            self._write_restored()
            self._follow_from_end()
            return True
        valid = True
        while True:
            wire = self._next()
            found = self._fold(wire)
            if found is not None:
                body = found.body
                assert isinstance(body, PartitionClaimed)
                if body.nonce == claim.nonce:
                    self.skew.claim_came_back(wire.timestamp_ms)
                    self._write_restored()
                    check_whole(self.log.app, self.number, self.assembler.gap, None)
                    return valid
                unknown = set(body.lanes) - set(self.lanes.names)
                valid = valid and found.claim_no < self.claim_no and not unknown

    def _follow_from_end(self) -> None:
        """Sabotage only: what was written before this moment is not looked at."""
        self.log.tail().unfollow(self.number)
        with self.inbox.changed:
            self.inbox.tail.clear()
        self.log.tail().follow(self.number, self.log.tail().bounds(self.number)[1], self.inbox.put_tail)

    # -- after a failure ---------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """End all lanes without a word to the broker: the next claim's `init_transactions` settles what was open."""
        if not sabotaged("one_lane_reinitialised"):
            self.lanes.close()
        self.log.tail().unfollow(self.number)
        self.log.inputs().unfollow(self.number)
        self.overlay.discard()

    def renew_lanes(self) -> None:
        """New lanes for the next claim."""
        if not sabotaged("one_lane_reinitialised"):
            self.lanes = self.log.lanes(self.number)
