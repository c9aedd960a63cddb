"""Words for event kinds that a bundle was not trained on; training on the service's log reads them alike."""

from zhiyin.data.kinds import SAME_MEANING, EventKinds

__all__ = ["SAME_MEANING", "EventKinds"]
