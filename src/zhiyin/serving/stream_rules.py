"""What must hold for the streams that a service reads, before it reads any of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zhiyin.domain.errors import ConfigError
from zhiyin.online.streams.settings import StreamSettings


def refuse_shared_groups(urls: Sequence[str]) -> None:
    """Raise where two tenants would share the messages of one group, each reaching one of its readers."""
    reader: dict[tuple[str, str, str], str] = {}
    for settings in map(StreamSettings.from_url, urls):
        tenant = reader.setdefault((settings.server, settings.stream, settings.group), settings.tenant)
        if tenant != settings.tenant:
            raise ConfigError(
                f"The tenants '{tenant}' and '{settings.tenant}' read '{settings.stream}' in one group.",
                possible="Each message of a group goes to one of its readers.",
                remedy="Give each tenant a stream of its own, or both the same events by another group=NAME.",
            )


def refuse_unserved(url: str, served: Collection[str]) -> str:
    """Return the tenant of a stream; raise where nobody serves it."""
    tenant = StreamSettings.from_url(url).tenant
    if tenant not in served:
        raise ConfigError(
            f"A stream is for the tenant '{tenant}', which is not served.",
            possible=f"Served are: {', '.join(sorted(served))}.",
            remedy=f"Put a bundle there:  zhiyin publish BUNDLE --store URL --tenant {tenant} --activate",
        )
    return tenant
