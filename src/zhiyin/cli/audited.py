"""What commands do with power stands in the audit log, as what comes over HTTP does."""

from __future__ import annotations

from contextlib import AbstractContextManager

from zhiyin.stores.events import AccessStore


def noted(
    access: AccessStore, tenant: str, action: str, subject: str, *, by_loop: bool = False
) -> AbstractContextManager[None]:
    """Note a deed before and after what stands inside; see `zhiyin.serving.access.audit.AuditLog.noted`.

    Args:
        access: Whose audit log.
        tenant: Whose data.
        action: One of `zhiyin.serving.access.audit.ACTIONS`.
        subject: What it is done to.
        by_loop: A learning loop does it, not a person.

    Raises:
        StoreError: when a note cannot be written; before the deed, or after it.
    """
    # Most commands do without the settings of the service.
    from zhiyin.serving.access.audit import CLI, LOOP, AuditLog, Deed  # noqa: PLC0415

    deed = Deed(tenant, LOOP if by_loop else CLI, action, subject)
    return AuditLog(access).noted(deed)
