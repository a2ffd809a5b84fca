"""The CMS as the arbiter: what a client may do is asked of it, each time.

Nothing that the CMS says takes effect for a client that is gone meanwhile (its command is cancelled
with it), nor for a channel that the CMS took from it while it was being asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import random
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from twisted_push.cms.decisions import Asker, Decisions
from twisted_push.errors import CmsUnavailable, Disconnect, PushError, Refused
from twisted_push.model import Published, StreamPosition
from twisted_push.node.channels import Channels, Joined
from twisted_push.node.context import Context
from twisted_push.node.renewals import RENEW_AGAIN, renewal_time
from twisted_push.session import Kind, Session, Subscription

__all__ = ["Arbiter"]

_log = Logger()
_T = TypeVar("_T")


class Arbiter:
    """Asks the CMS of one site what its clients may do, and does what it says.

    A CMS that gives no usable answer is a temporary refusal: the same may succeed later.
    ``publish`` and ``finish`` are the node's, ``jitter`` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        context: Context,
        channels: Channels,
        publish: Callable[..., Awaitable[Published]],
        finish: Callable[[Session, Disconnect, str], None],
        jitter: Callable[[], float] = random,
    ) -> None:
        self._context = context
        self._channels = channels
        self._publish = publish
        self._finish = finish
        self._jitter = jitter

    # --- What a client does ------------------------------------------------------------------

    async def subscribe(
        self,
        session: Session,
        channel: str,
        token: str,
        data: bytes | None,
        since: StreamPosition | None,
    ) -> Joined:
        """Let a client into a channel if the CMS says so; it is shown ``token`` and ``data``.

        Raises Refused and Disconnect as the CMS answers, Refused(103) if it took the channel from
        the client meanwhile, and otherwise as `Channels.join`.
        """
        self._context.policy.check_channel_count(len(session.subscriptions))
        decisions = self._decisions(Refused(103))
        with self._channels.arrivals.wishing(session, channel) as wish:
            said = await _usable(decisions.subscribe(_asker(session), channel, token, data))
            if wish.taken:
                raise Refused(103)
        subscription = Subscription(channel, Kind.CMS, said.info, said.data)
        self._set_end(subscription, said.expires_at)
        return await self._channels.join(session, subscription, since)

    async def publish(self, session: Session, channel: str, data: bytes) -> None:
        """Publish what a client sent, or what the CMS made of it, if the CMS says so."""
        decisions = self._decisions(Refused(103))
        said = await _usable(decisions.publish(_asker(session), channel, data))
        if said.skip:
            return
        await self._publish(
            channel,
            data if said.data is None else said.data,
            info=session.info(channel),
            skip_history=said.skip_history,
        )

    async def rpc(self, session: Session, method: str, data: bytes | None) -> bytes | None:
        """Have the CMS answer a call. Refused(108) where it takes none."""
        return await _usable(self._decisions(Refused(108)).rpc(_asker(session), method, data))

    async def send(self, session: Session, data: bytes | None) -> None:
        """Tell the CMS what a client sent, where it takes that. Disconnect if it says so."""
        decisions = self._context.gate.decisions
        if decisions is not None and decisions.tells_sends:
            await _usable(decisions.rpc(_asker(session), None, data))

    def _decisions(self, otherwise: Refused) -> Decisions:
        if self._context.gate.decisions is None:
            raise otherwise
        return self._context.gate.decisions

    # --- Renewals ----------------------------------------------------------------------------

    def renew(self, session: Session, subscription: Subscription) -> None:
        """Begin to ask whether a client may keep a channel; it has it meanwhile."""
        subscription.renew_at = None
        renewal = Deferred.fromCoroutine(self._renew(session, subscription))
        if not renewal.called:
            subscription.renewal = renewal

    async def _renew(self, session: Session, subscription: Subscription) -> None:
        answer: float | PushError | None
        try:
            decisions = self._decisions(Refused(103))
            answer = await decisions.sub_refresh(_asker(session), subscription.channel)
        except CancelledError:
            return  # The client does not have the channel any more.
        except (CmsUnavailable, Disconnect, Refused) as error:
            answer = error
        except Exception:
            _log.failure("{site}: a renewal failed", site=self._context.name)
            answer = Disconnect(3004)
        finally:
            subscription.renewal = None
        self._renewed(session, subscription, answer)

    def _renewed(
        self, session: Session, subscription: Subscription, answer: float | PushError | None
    ) -> None:
        """Do what the CMS said: a new end (None: no end), or what it raised."""
        if isinstance(answer, Disconnect):
            self._finish(session, answer, answer.text)
            return
        if isinstance(answer, CmsUnavailable) or (isinstance(answer, Refused) and answer.temporary):
            pause = answer.retry_after if isinstance(answer, CmsUnavailable) else None
            delay = max(pause or 0.0, RENEW_AGAIN) * (1.0 + self._jitter())
            subscription.renew_at = self._context.clock.seconds() + delay
        elif isinstance(answer, PushError):
            self._channels.end(session, subscription.channel)
        else:
            self._set_end(subscription, answer)
        session.owner.look_at(session)

    def _set_end(self, subscription: Subscription, expires_at: float | None) -> None:
        """Set when a subscription is renewed, and when it ends if nobody can say.

        ``expires_at`` is what the CMS said. A CMS that cannot be asked then leaves it as it is for
        ``serve_stale`` more, like a grant.
        """
        subscription.renew_at = subscription.expires_at = None
        if expires_at is not None:
            now = self._context.clock.seconds()
            subscription.renew_at = renewal_time(now, expires_at, self._jitter())
            subscription.expires_at = expires_at + self._decisions(Refused(103)).serve_stale


def _asker(session: Session) -> Asker:
    meta = session.grant.raw if session.grant is not None else None
    return Asker(session.client, session.user, session.transport.request, meta)


async def _usable(answer: Awaitable[_T]) -> _T:
    """Wait for an answer; that there is none is a temporary refusal."""
    try:
        return await answer
    except CmsUnavailable as error:
        raise error.refusal from None  # Logged where the CMS was asked.
