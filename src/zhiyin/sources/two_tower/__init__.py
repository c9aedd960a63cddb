"""A text two-tower: what somebody took and what there is, compared by texts that behaviour taught to read."""
