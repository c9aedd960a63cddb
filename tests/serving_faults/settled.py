"""Imported last by the process that services are forked from: what stands by now is not collected again."""

import gc

gc.collect()
gc.freeze()
