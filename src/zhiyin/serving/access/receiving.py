"""How long a request may take to arrive."""

from __future__ import annotations

import asyncio
import time

from starlette.types import Message, Receive

from zhiyin.serving.problems import Refused


class TimedBody:
    """Receives a body, and gives up on a caller who sends it too slowly.

    Without this, a few callers who send a byte a minute hold connections and memory for hours.

    Args:
        receive: Where the parts of the body come from.
        seconds: How long the service waits for the whole body; time it spends itself does not count.
        streamed: Whether the body may take as long as it needs while no single wait is longer than that.
    """

    def __init__(self, receive: Receive, seconds: float, *, streamed: bool) -> None:
        self._receive = receive
        self._seconds = self._left = seconds
        self._streamed = streamed
        self._is_whole = False

    async def __call__(self) -> Message:
        """Return the next part.

        Raises:
            Refused: when it does not come in time; the connection is to be closed then.
        """
        if self._is_whole:  # what comes now is that the caller went away, whenever that is
            return await self._receive()
        start = time.monotonic()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError:
            raise Refused(
                "request-timeout",
                f"The body did not arrive within {self._seconds:g} seconds.",
                remedy="Send it faster, or in several requests.",
                # What is left of the body would otherwise be read as the next request.
                headers={"Connection": "close"},
            ) from None
        if not self._streamed:
            self._left = max(0.001, self._left - (time.monotonic() - start))
        self._is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message
